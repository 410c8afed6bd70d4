"""Lines on standard output and standard error, whatever their encoding can write."""

from __future__ import annotations

import sys
import warnings

__all__ = ["escape_unknown", "ignore_warnings_of_pillow", "say"]


def escape_unknown() -> None:
    r"""Make both streams write what their encoding lacks as escapes such as ``\u732b``.

    Names of files and classes may hold any character, and lone surrogates. Windows pipes and old
    terminals take few.
    """
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # not every stream has an encoding
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def ignore_warnings_of_pillow() -> None:
    """Pass over warnings of damaged metadata, in lines that name Pillow's own source."""
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def say(text: str, *, err: bool = False) -> None:
    """Write a line at once.

    Not ``typer.echo``: on an ASCII stream it writes UTF-8.

    Args:
        text: The line, or several.
        err: Whether it goes to standard error.
    """
    stream = sys.stderr if err else sys.stdout
    stream.write(f"{text}\n")
    stream.flush()
