"""The help of options comes from the docstring of their command."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
import typer
from typer.testing import CliRunner

from fcnkit.cli.documented import documented

Shared = Annotated[int, typer.Option("--shared", help="Brings its help.")]


def command(
    *,
    size: str | None = None,
    quiet: Annotated[bool, typer.Option("--quiet")] = False,
    bit_depth: Literal["8", "16"] | None = None,
    n: Shared = 1,
) -> None:
    """Do something.

    More of that.

    Options:
        size: Rows and columns: HxW,
            such as 320x480.
        quiet: Print nothing.
        bit_depth: of the file.
    """
    typer.echo(f"{size} {quiet} {bit_depth} {n}")


def run(*words: str) -> str:
    app = typer.Typer()
    app.command()(documented(command))
    done = CliRunner().invoke(app, [*words], env={"COLUMNS": "100", "TERM": "dumb"})
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def test_the_help_of_options_comes_from_the_docstring() -> None:
    documented(command)
    assert command.__doc__ == "Do something.\n\nMore of that."
    shown = run("--help")
    assert "Rows and columns: HxW, such as 320x480." in shown
    assert "Print nothing." in shown
    assert "Brings its help." in shown
    assert "8 or 16: of the file." in shown
    assert "Options:" not in shown
    assert run("--size", "1x2", "--quiet", "--bit-depth", "16") == "1x2 True 16 1"


def test_a_name_that_is_no_parameter() -> None:
    def other(*, size: str | None = None) -> None:
        """Do something.

        Options:
            sizes: Rows and columns.
        """

    with pytest.raises(KeyError, match="sizes"):
        documented(other)
