"""``fcnkit adopt``: a network from elsewhere to a verified file of fcnkit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fcnkit.cli.following import say_next
from fcnkit.cli.options import PictureBands, choice, parse_bands
from fcnkit.cli.progress import progress_of
from fcnkit.cli.say import say
from fcnkit.errors import BadValueError, message, missing_extra, printable
from fcnkit.export.choices import Activations
from fcnkit.runtime.artifacts.precisions import Precision
from fcnkit.runtime.artifacts.spec import Head, parse_shape

__all__ = ["adopt"]


def adopt(
    source: Annotated[
        str, typer.Argument(help="An .onnx file, a state dict, or package.module:factory.")
    ],
    *,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The .onnx, .pt or .safetensors file to write.")
    ],
    classes: Annotated[int | None, typer.Option(help="Number of classes.")] = None,
    labelmap: Annotated[
        Path | None, typer.Option(help="File that names the classes, name:r,g,b:: a line.")
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(help="What is subtracted from the input's channels: 0.485,0.456,0.406."),
    ] = None,
    std: Annotated[
        str | None, typer.Option(help="What they are divided by after that: 0.229,0.224,0.225.")
    ] = None,
    scale: Annotated[
        int | None, typer.Option(help="255 where mean and std are of 0..255, 1 where of 0..1.")
    ] = None,
    color: Annotated[
        str | None, typer.Option(help="The network's order of channels: RGB or BGR.")
    ] = None,
    multiple: Annotated[
        int | None, typer.Option(help="What the sides of an image divide by; tried by default.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call the network.")] = None,
    output: Annotated[
        str | None, typer.Option(help="The output of an ONNX file that is adopted.")
    ] = None,
    upsample: Annotated[
        str | None,
        typer.Option(help="How coarse scores are enlarged: bilinear (default) or align-corners."),
    ] = None,
    bands: PictureBands = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML or JSON file with these options by name.")
    ] = None,
    head: Annotated[
        Head | None, choice("--head", Head, "logits where the network gives scores by default.")
    ] = None,
    precision: Annotated[
        Precision,
        choice("--precision", Precision, "of the graph; inputs and outputs keep their types."),
    ] = "fp32",
    keep_fp32: Annotated[
        str | None, typer.Option(help="Parts that stay in fp32, by comma: net.head.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="For int8 and fp16: VOC folder, or one of at least 16 images."),
    ] = None,
    activations: Annotated[
        Activations,
        choice("--activations", Activations, "for int8; uint8 is fastest on CPUs."),
    ] = "uint8",
    shape: Annotated[
        str | None, typer.Option(help="The only NxHxW that the graph takes: 1x320x480.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Labeled images in VOC layout: score these claims and others on them."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Which list of --data; val by default.")] = None,
) -> None:
    """Take over a network from elsewhere, and keep the file only if it agrees with its source."""
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
