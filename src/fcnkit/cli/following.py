"""The command to type next, which a command says when it has finished."""

from __future__ import annotations

import shlex

from fcnkit.cli.say import say

__all__ = ["say_next"]


def say_next(*arguments: object, where: str = "") -> None:
    """Say what to type next, on stderr: standard output holds only what the command answers.

    Args:
        arguments: What follows ``fcnkit``. A name in capitals stands for what the user has.
        where: Where to type it, if not here.
    """
    command = shlex.join(["fcnkit", *map(str, arguments)])
    say(f"next{where}: {command}", err=True)
