"""The errors that fcnkit raises on purpose, and the one form in which they are worded.

Every message is one line, ``what: rule, got value; remedy``. Arguments of a wrong Python type or
dtype raise TypeError and arguments of a wrong shape, range or content raise ValueError, as Python
users expect; the classes here are for what those two cannot say.
"""

from __future__ import annotations

import warnings
from functools import lru_cache

__all__ = [
    "ArtifactError",
    "BackendUnavailableError",
    "DataError",
    "FcnkitError",
    "FcnkitWarning",
    "MissingExtraError",
    "ModelWarning",
    "PictureWarning",
    "VerifyError",
    "message",
    "missing_extra",
    "printable",
    "warn_of_model",
]


_MOST = 1000
"""Characters of a received value that are shown: a file may hold a number of any length."""


class FcnkitError(Exception):
    """Base class of fcnkit's own errors."""


class ArtifactError(FcnkitError, ValueError):
    """A checkpoint, ONNX file, engine or sidecar is not what it has to be."""


class DataError(FcnkitError, ValueError):
    """A data set, picture or mask is not what it has to be."""


class BackendUnavailableError(FcnkitError, ImportError):
    """A backend was asked for that cannot open a session on this machine."""


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


def message(what: str, rule: str, got: object, remedy: str) -> str:
    """Word an error: ``what: rule, got value; remedy``, on one line.

    Args:
        what: The function, file or option that refuses.
        rule: What must hold.
        got: What was received; strings are taken as they are, blank ones and anything else by its
            repr, and no more than the first 1000 characters of either.
        remedy: What the user can do about it.

    Returns:
        The message, line breaks replaced by spaces and control characters escaped.

    Example:
        >>> message("--min", "sides must be multiples of 32", "1x33x32", "use 1x64x32")
        '--min: sides must be multiples of 32, got 1x33x32; use 1x64x32'
    """
    # A blank, a file's name for instance, would vanish from the line
    name = what if what.strip() else repr(what)
    value = got if isinstance(got, str) and got.strip() else repr(got)
    if len(value) > _MOST:
        value = f"{value[:_MOST]}..."
    return printable(" ".join(f"{name}: {rule}, got {value}; {remedy}".split()))


@lru_cache(maxsize=64)
def warn_of_model(text: str) -> None:
    """Give a ModelWarning, once per process: a file is read several times while it is opened.

    Args:
        text: What ``message`` returned.
    """
    warnings.warn(text, ModelWarning, stacklevel=3)


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
