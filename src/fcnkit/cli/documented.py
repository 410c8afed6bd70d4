"""Help of options, read from the docstring of their command."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import typer
from typer.models import OptionInfo

from fcnkit.cli.options import choice

__all__ = ["documented"]

Command = TypeVar("Command", bound=Callable[..., Any])

_ITEM = re.compile(r"^    (\w+): ((?:.|\n {8})+)", re.MULTILINE)
"""A name, a colon, and a help text whose further lines are indented once more."""


def documented(command: Command) -> Command:
    """Give the options of a command the help that ``Options`` of its docstring says.

    Args:
        command: A function for typer. Its docstring may end with a section ``Options`` in the form
            of ``Args``. An option that takes one of a few names lists them before its help.
            Options that several commands share bring their own help.

    Returns:
        The command. Its docstring and annotations are as typer reads them.

    Raises:
        KeyError: The docstring names a parameter that the command does not have.
    """
    text, _, section = (inspect.getdoc(command) or "").partition("\n\nOptions:\n")
    hints = get_type_hints(command, include_extras=True)
    for name, lines in _ITEM.findall(section):
        hints[name] = _with_help(name, hints[name], " ".join(lines.split()))
    command.__annotations__ = hints
    command.__doc__ = text
    return command


def _with_help(name: str, hint: Any, help: str) -> Any:
    if get_origin(hint) is not Annotated:
        named = [kind for kind in (hint, *get_args(hint)) if get_origin(kind) is Literal]
        option = f"--{name.replace('_', '-')}"
        made = choice(option, named[0], help) if named else typer.Option(help=help)
        return Annotated[hint, made]
    option = get_args(hint)[1]
    assert isinstance(option, OptionInfo)
    assert option.help is None, f"two texts for one option: {help}"
    option.help = help
    return hint
