"""``fcnkit adopt``: a network from elsewhere to a verified file of fcnkit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fcnkit.cli.documented import documented
from fcnkit.cli.following import say_next
from fcnkit.cli.options import GraphPrecision, PictureBands, QuantizedTo, parse_bands
from fcnkit.cli.progress import progress_of
from fcnkit.cli.say import say
from fcnkit.errors import BadValueError, message, missing_extra, printable
from fcnkit.runtime.artifacts.spec import Head, parse_shape

__all__ = ["adopt"]


@documented
def adopt(
    source: Annotated[
        str, typer.Argument(help="An .onnx file, a state dict, or package.module:factory.")
    ],
    *,
    out: Annotated[Path, typer.Option("-o", "--out")],
    classes: int | None = None,
    labelmap: Path | None = None,
    mean: str | None = None,
    std: str | None = None,
    scale: int | None = None,
    color: str | None = None,
    multiple: int | None = None,
    name: str | None = None,
    output: str | None = None,
    upsample: str | None = None,
    bands: PictureBands = None,
    config: Path | None = None,
    head: Head | None = None,
    precision: GraphPrecision = "fp32",
    keep_fp32: str | None = None,
    calibration: Path | None = None,
    activations: QuantizedTo = "uint8",
    shape: str | None = None,
    data: Path | None = None,
    split: str | None = None,
) -> None:
    """Take over a network from elsewhere, and keep the file only if it agrees with its source.

    Options:
        out: The .onnx, .pt or .safetensors file to write.
        classes: Number of classes.
        labelmap: File that names the classes, name:r,g,b:: a line.
        mean: What is subtracted from the input's channels: 0.485,0.456,0.406.
        std: What they are divided by after that: 0.229,0.224,0.225.
        scale: 255 where mean and std are of 0..255, 1 where of 0..1.
        color: The network's order of channels: RGB or BGR.
        multiple: What the sides of an image divide by; tried by default.
        name: What to call the network.
        output: The output of an ONNX file that is adopted.
        upsample: How coarse scores are enlarged: bilinear (default) or align-corners.
        config: YAML or JSON file with these options by name.
        head: logits where the network gives scores by default.
        keep_fp32: Parts that stay in fp32, by comma: net.head.
        calibration: For int8 and fp16: VOC folder, or one of at least 16 images.
        shape: The only NxHxW that the graph takes: 1x320x480.
        data: Labeled images in VOC layout: score these claims and others on them.
        split: Which list of --data; val by default.
    """
    try:
        from fcnkit.export.adopt.adopting import adopt as run
        from fcnkit.export.adopt.claims import Claims, read_claims
    except ModuleNotFoundError as error:
        raise missing_extra("fcnkit adopt", str(error.name), "export") from error
    if split is not None and data is None:
        rule, remedy = "names a list of --data", "add --data, or leave it out"
        raise BadValueError(message("--split", rule, f"{split} without --data", remedy))
    said: dict[str, Any] = {
        "classes": classes,
        "labelmap": labelmap,
        "mean": _numbers("--mean", mean),
        "std": _numbers("--std", std),
        "scale": scale,
        "color": color,
        "multiple": multiple,
        "name": name,
        "output": output,
        "upsample": upsample,
        "bands": parse_bands(bands),
    }
    given = read_claims(config) if config else {}
    given |= {key: value for key, value in said.items() if value is not None}
    with progress_of(unit="images") as advance:
        report = run(
            source,
            out,
            claims=Claims(**given),
            head=head,
            precision=precision,
            keep_fp32=tuple(filter(None, (keep_fp32 or "").replace(" ", "").split(","))),
            calibration=calibration,
            activations=activations,
            shape=parse_shape(shape, "--shape") if shape is not None else None,
            data=data,
            split=split or "val",
            on_picture=lambda done, total: advance("verify", done, total),
        )
    for line in report.facts:
        say(printable(line))
    say(printable(f"{out}: {report.summary()}"))
    if out.suffix == ".onnx":
        say_next("predict", out, "IMAGES", "-o", "labels")
    else:
        say_next("export", "onnx", out, "-o", out.with_suffix(".onnx"))


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """Read ``0.485,0.456,0.406``, or one number for all channels."""
    if text is None:
        return None
    parts = text.split(",")
    try:
        values = tuple(float(part) for part in parts)
    except ValueError:
        rule = "is written as one or three numbers"
        raise BadValueError(message(option, rule, repr(text), "write 0.485,0.456,0.406")) from None
    return values * 3 if len(values) == 1 else values
