"""The errors that fcnkit raises on purpose, and their one form.

A message is one line, ``what: rule, got value; remedy``. Every error raised with ``message`` keeps
these parts as the attributes ``what``, ``rule``, ``got`` and ``remedy``, so that nobody has to
parse the text. The parts survive pickling.

An argument of a wrong type or dtype raises ``BadTypeError``, which is a TypeError. An argument
of a wrong shape, range or content raises ``BadValueError``, which is a ValueError. The other
classes are for everything else.

Every class takes one argument, the text, because libraries re-raise errors as
``type(error)(text)``. The parts of an error made from a plain ``str`` are that text as ``rule``,
and three empty strings.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Self, TextIO

__all__ = [
    "ArtifactError",
    "BackendUnavailableError",
    "BadTypeError",
    "BadValueError",
    "DataError",
    "FcnkitError",
    "FcnkitWarning",
    "Message",
    "MissingExtraError",
    "ModelWarning",
    "PictureWarning",
    "VerifyError",
    "WorkerWarning",
    "message",
    "missing_extra",
    "parts",
    "pass_warnings_to",
    "printable",
    "warn_of_model",
    "within",
]


_MOST = 1000
"""Characters of a received value that are shown: a file may hold a number of any length."""


class Message(str):
    """The text of an error, with its parts as attributes.

    Attributes:
        what: The function, file or option that refuses.
        rule: What must hold.
        got: What was received, as the text shows it.
        remedy: What the user can do about it.
    """

    __slots__ = ("got", "remedy", "rule", "what")

    what: str
    rule: str
    got: str
    remedy: str

    def __new__(
        cls, text: str, *, what: str = "", rule: str | None = None, got: str = "", remedy: str = ""
    ) -> Self:
        """Attach the parts to a str; without them all of it is the rule."""
        made = super().__new__(cls, text)
        made.what, made.got, made.remedy = what, got, remedy
        made.rule = text if rule is None else rule
        return made

    @property
    def fact(self) -> str:
        """What is wrong, ``rule, got value``, without the place and the remedy."""
        return f"{self.rule}, got {self.got}" if self.got else self.rule


def parts(error: BaseException) -> Message:
    """Return the message of any error with its parts.

    Args:
        error: An error of fcnkit, or another one, whose text is then the rule.

    Returns:
        The message, equal to ``str(error)``.
    """
    first = error.args[0] if len(error.args) == 1 else None
    return first if isinstance(first, Message) else Message(str(error))


class _KeepsParts(Exception):
    """An error with the parts of its message as attributes; see ``Message``."""

    what: str
    rule: str
    got: str
    remedy: str

    def __getattr__(self, name: str) -> str:
        """Take the parts out of the message."""
        if name not in Message.__slots__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        part: str = getattr(parts(self), name)
        return part


class BadTypeError(_KeepsParts, TypeError):
    """An argument has a wrong type or dtype."""


class BadValueError(_KeepsParts, ValueError):
    """An argument has a wrong shape, range or content."""


class FcnkitError(_KeepsParts):
    """Base class of fcnkit's own errors."""


class ArtifactError(FcnkitError, ValueError):
    """A checkpoint, ONNX file, engine or sidecar is not what it has to be."""


class DataError(FcnkitError, ValueError):
    """A data set, picture or mask is not what it has to be."""


class BackendUnavailableError(FcnkitError, ImportError):
    """The requested backend cannot run on this machine."""


class MissingExtraError(FcnkitError, ImportError):
    """A package is missing that an optional extra of fcnkit installs."""


class VerifyError(FcnkitError):
    """An exported model does not compute what its source computes."""


class FcnkitWarning(UserWarning):
    """Base class of fcnkit's own warnings."""


class ModelWarning(FcnkitWarning):
    """A model file is used, but something that it says could not be confirmed."""


class PictureWarning(FcnkitWarning):
    """A picture was read under an assumption that its file does not confirm."""


class WorkerWarning(FcnkitWarning):
    """A worker process ended before its time; others do its work."""


def message(what: str, rule: str, got: object, remedy: str) -> Message:
    """Word an error: ``what: rule, got value; remedy``, on one line.

    Args:
        what: The function, file or option that refuses.
        rule: What must hold.
        got: What was received; strings are taken as they are, blank ones and anything else by its
            repr, and no more than the first 1000 characters of either.
        remedy: What the user can do about it.

    Returns:
        The message with its parts. Line breaks are replaced by spaces, and control characters are
        escaped.

    Example:
        >>> text = message("--min", "sides must be multiples of 32", "1x33x32", "use 1x64x32")
        >>> text
        '--min: sides must be multiples of 32, got 1x33x32; use 1x64x32'
        >>> text.remedy
        'use 1x64x32'
    """
    # A blank, a file's name for instance, would vanish from the line
    name = _line(what if what.strip() else repr(what))
    value = got if isinstance(got, str) and got.strip() else repr(got)
    if len(value) > _MOST:
        value = f"{value[:_MOST]}..."
    rule, value, remedy = _line(rule), _line(value), _line(remedy)
    text = f"{name}: {rule}, got {value}; {remedy}"
    return Message(text, what=name, rule=rule, got=value, remedy=remedy)


def within(where: str, error: BaseException) -> Message:
    """Put the file or function around an error in front of its message.

    Args:
        where: The outer place.
        error: What went wrong inside.

    Returns:
        The message ``where: message of the error``, whose ``what`` starts with ``where``.
    """
    inner = parts(error)
    if not inner.what:
        return Message(_line(f"{where}: {inner}"))
    return message(f"{where}: {inner.what}", inner.rule, inner.got, inner.remedy)


def _line(text: str) -> str:
    return printable(" ".join(text.split()))


@lru_cache(maxsize=64)
def warn_of_model(text: str) -> None:
    """Give a ModelWarning, once per process: a file is read several times while it is opened.

    Args:
        text: What ``message`` returned.
    """
    warnings.warn(text, ModelWarning, stacklevel=3)


_show_other_warning = warnings.showwarning


def pass_warnings_to(take: Callable[[str], object]) -> None:
    """From here on, hand over fcnkit's own warnings, and show others as Python does.

    Args:
        take: Gets the text of each warning, one line, once.
    """
    taken: set[str] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not issubclass(category, FcnkitWarning):
            _show_other_warning(message, category, filename, lineno, file, line)
            return
        text = printable(str(message))
        # Python's own filter "once" forgets what it showed whenever a library changes the filters.
        if text not in taken:
            taken.add(text)
            take(text)

    warnings.filterwarnings("always", category=FcnkitWarning)
    warnings.showwarning = show


def printable(text: str) -> str:
    r"""Escape what could steer a terminal: names of files and tensors come from strangers.

    Args:
        text: Any text, also with the lone surrogates of file names that are not UTF-8.

    Returns:
        The text, characters that do not print as ``\x1b`` or ``\udcff``.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def missing_extra(what: str, package: str, extra: str) -> MissingExtraError:
    """Build the error for a package that is not installed, with the command that installs it.

    Args:
        what: The function or command that needs the package.
        package: The package's import name.
        extra: The fcnkit extra that installs it.

    Returns:
        The error, to be raised by the caller.
    """
    text = message(
        what, f"needs the package {package}", "no such package", f"pip install 'fcnkit[{extra}]'"
    )
    return MissingExtraError(text)
