"""The command line: one module per verb, each importing what it needs when it runs."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.core import TyperGroup

from fcnkit.cli import (
    adopt,
    bench,
    data,
    doctor,
    evaluate,
    export,
    info,
    manifest,
    predict,
    train,
    verify,
)
from fcnkit.cli.predict_crew import PredictCommand
from fcnkit.cli.say import escape_unknown, ignore_warnings_of_pillow, say
from fcnkit.errors import FcnkitError, pass_warnings_to, printable

__all__ = ["app", "main"]

_ORDER = (
    *("data", "train", "eval", "adopt", "export", "verify", "predict", "manifest"),
    *("bench", "info", "doctor"),
)
"""The order in which a newcomer needs the verbs; typer would list the groups last."""

_FIRST_STEPS = (
    "First steps; each command works with its defaults:",
    "fcnkit data shapes shapes",
    "fcnkit train shapes -o run",
    "fcnkit export onnx run/best.pt -o model.onnx",
    "fcnkit predict model.onnx shapes/JPEGImages -o labels",
)


class _InOrder(TyperGroup):
    def list_commands(self, ctx: object) -> list[str]:  # noqa: ARG002 - typer passes it
        def place(name: str) -> int:
            return _ORDER.index(name) if name in _ORDER else len(_ORDER)

        return sorted(self.commands, key=place)


app = typer.Typer(
    name="fcnkit",
    cls=_InOrder,
    help="From labeled images to a segmentation model that runs fast wherever it is deployed.",
    epilog="\n\n".join(_FIRST_STEPS),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# One line per verb. A verb's module imports at its top what is
# light, and torch, onnxruntime and the like inside its functions: a help text must not load them.
app.add_typer(data.app, name="data")
app.command("train", epilog=train.RECIPE_HELP)(train.train)
app.command("eval")(evaluate.evaluate)
app.command("adopt")(adopt.adopt)
app.add_typer(export.app, name="export")
app.command("verify")(verify.verify)
app.command("predict", cls=PredictCommand)(predict.predict)
app.command("manifest")(manifest.manifest)
app.add_typer(bench.app, name="bench")
app.command("info")(info.info)
app.command("doctor")(doctor.doctor)

_DEBUG = "FCNKIT_DEBUG"


def _print_version(wanted: bool) -> None:
    if wanted:
        from fcnkit import __version__

        say(f"fcnkit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    debug: Annotated[
        bool, typer.Option("--debug", help=f"Show tracebacks of errors; or set {_DEBUG}=1.")
    ] = False,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    if debug:
        os.environ[_DEBUG] = "1"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an expected error is one line on stderr and exit code 2.

    Args:
        arguments: What follows ``fcnkit``; by default the process's own.
    """
    escape_unknown()
    ignore_warnings_of_pillow()
    pass_warnings_to(lambda text: sys.stderr.write(f"warning: {text}\n"))
    try:
        app(arguments, prog_name="fcnkit")
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except (FcnkitError, ValueError, TypeError, OSError, MemoryError) as error:
        if os.environ.get(_DEBUG, "0") not in ("", "0"):
            traceback.print_exc()
        line = printable(" ".join(str(error).split())) or type(error).__name__
        sys.stderr.write(f"error: {line}\n")
        raise SystemExit(2) from None
