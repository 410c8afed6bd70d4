"""``fcnkit export``: checkpoint to ONNX, ONNX to a TensorRT engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fcnkit.cli.documented import documented
from fcnkit.cli.export_engine import engine
from fcnkit.cli.export_triton import triton
from fcnkit.cli.export_web import web
from fcnkit.cli.following import say_next
from fcnkit.cli.options import Factory, GraphPrecision, QuantizedTo, Tta, use_factory
from fcnkit.cli.progress import progress_of
from fcnkit.cli.say import say
from fcnkit.errors import missing_extra
from fcnkit.runtime.artifacts.spec import Head, parse_shape

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Write a trained network as ONNX, an engine, a Triton repository or a web page.",
)


@app.command()
@documented
def onnx(
    checkpoint: Annotated[Path, typer.Argument(help="best.pt or last.pt of a run.")],
    *,
    out: Annotated[Path, typer.Option("-o", "--out")],
    head: Head | None = None,
    precision: GraphPrecision = "fp32",
    keep_fp32: str | None = None,
    calibration: Path | None = None,
    activations: QuantizedTo = "uint8",
    max_miou_drop: float | None = None,
    search: Annotated[bool, typer.Option("--search")] = False,
    shape: str | None = None,
    confidence: Annotated[bool, typer.Option("--confidence")] = False,
    tta: Tta = None,
    opset: int = 20,
    factory: Factory = None,
) -> None:
    """Write ONNX, run it against PyTorch, and keep the file only if both agree.

    Options:
        out: The .onnx file to write.
        head: scores for fcnkit's runtime, the default where the network has them, else logits;
            labels and scene take and give uint8, scene of any size.
        keep_fp32: Parts that stay in fp32, by comma: final_conv,backbone.conv1.
        calibration: For int8 and fp16: VOC folder, or one of at least 16 pictures.
        max_miou_drop: For int8: largest loss of mean IoU on the held-out split; 0.01.
        search: For int8: compare ranges, correct biases, and keep the layers in fp32 that cost
            most, until --max-miou-drop holds. Takes minutes.
        shape: The only NxHxW that the graph takes: 1x320x480.
        confidence: For labels and scene: also give 255 x probability.
        opset: Operator set, 18 to 20; lower for older libraries.
    """
    try:
        from fcnkit.export.to_onnx import export_onnx
    except ModuleNotFoundError as error:
        raise missing_extra("fcnkit export onnx", str(error.name), "export") from error
    use_factory(factory)
    with progress_of(unit="images") as advance:
        report = export_onnx(
            checkpoint,
            out,
            head=head,
            precision=precision,
            keep_fp32=tuple(filter(None, (keep_fp32 or "").replace(" ", "").split(","))),
            calibration=calibration,
            activations=activations,
            max_miou_drop=max_miou_drop,
            search=search,
            shape=parse_shape(shape, "--shape") if shape is not None else None,
            confidence=confidence,
            tta=tta,
            opset=opset,
            on_picture=lambda done, total: advance("verify", done, total),
        )
    say(f"{out}: {report.summary()}")
    if report.last_layer is not None:
        stride, size = report.last_layer.stride, report.last_layer.bytes
        say(f"fcnkit's runtime enlarges the scores by {stride}, with {size} bytes of weights")
    if report.search is not None:
        say(report.search.summary())
    for line in report.verify.bounded:
        say(f"largest shape {line}")
    seen = f"{len(report.calibration)} pictures"
    if report.half_range:
        where = f"noise and {seen}" if report.calibration else "noise"
        say(f"largest activation in fp16 {report.half_range.peak:.3g} of at most 65504, on {where}")
    elif report.calibration:
        say(f"calibrated on {seen}")
    if report.calibration and report.verify.data is None:
        say("mean IoU was not measured: the data has no second split with truth")
    if report.speedup is not None:
        say(f"{report.speedup:.2f}x as fast as fp32 in ONNX Runtime on this machine")
    say_next("predict", out, "PICTURES", "-o", "labels")


app.command("engine")(engine)
app.command("triton")(triton)
app.command("web")(web)
