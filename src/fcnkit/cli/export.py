"""``fcnkit export``: checkpoint to ONNX, ONNX to a TensorRT engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast, get_args

import typer

from fcnkit.errors import message, missing_extra
from fcnkit.runtime.spec import Head, Shape, format_shape, parse_shape

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Write a trained network as ONNX or as an engine.")


@app.command()
def onnx(
    checkpoint: Annotated[Path, typer.Argument(help="best.pt or last.pt of a run.")],
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="The .onnx file to write.")],
    head: Annotated[
        str, typer.Option(help="logits, labels (uint8 in and out) or scene (any size).")
    ] = "logits",
) -> None:
    """Write ONNX, run it against PyTorch, and keep the file only if both agree."""
    if head not in get_args(Head):
        rule = f"must be one of {', '.join(get_args(Head))}"
        raise ValueError(message("--head", rule, head, "choose one of these"))
    try:
        from fcnkit.export.to_onnx import export_onnx
    except ModuleNotFoundError as error:
        raise missing_extra("fcnkit export onnx", str(error.name), "export") from error
    report = export_onnx(checkpoint, out, head=cast(Head, head))
    typer.echo(f"{out}: {report.summary()}")


@app.command()
def engine(
    model: Annotated[Path, typer.Argument(help="An .onnx file that fcnkit exported.")],
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="The .engine file to write.")],
    flavor: Annotated[
        str, typer.Option(help="auto, tensorrt (needs its GPU) or tensorrt-rtx.")
    ] = "auto",
    low: Annotated[str | None, typer.Option("--min", help="Smallest NxHxW.")] = None,
    opt: Annotated[str | None, typer.Option("--opt", help="NxHxW to tune for.")] = None,
    high: Annotated[str | None, typer.Option("--max", help="Largest NxHxW.")] = None,
) -> None:
    """Build a TensorRT engine: a pure plan, and its spec beside it."""
    from fcnkit.export.engine import build_engine
    from fcnkit.runtime.plan_header import Flavor

    choices = ("auto", *get_args(Flavor))
    if flavor not in choices:
        rule = f"must be one of {', '.join(choices)}"
        raise ValueError(message("--flavor", rule, flavor, "choose one of these"))
    report = build_engine(
        model,
        out,
        flavor=cast('Flavor | Literal["auto"]', flavor),
        min_shape=_shape(low, "--min"),
        opt_shape=_shape(opt, "--opt"),
        max_shape=_shape(high, "--max"),
    )
    shapes = report.shapes
    profile = " ".join(map(format_shape, (shapes.min, shapes.opt, shapes.max)))
    typer.echo(f"{out}: {report.library}, {report.bytes / 1e6:.1f} MB, min opt max {profile}")
    typer.echo("the engine was built but not run: this version verifies no engines")


def _shape(text: str | None, option: str) -> Shape | None:
    return None if text is None else parse_shape(text, option)
