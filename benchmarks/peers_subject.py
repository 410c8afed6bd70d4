"""The network that all ways of ``benchmarks.peers`` run: a checkpoint, a module or an ONNX file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import adopt_sources
from benchmarks.export import plain_transposed
from fcnkit.errors import ArtifactError
from fcnkit.export.adopt import Claims, adopt
from fcnkit.export.to_onnx import export_onnx
from fcnkit.runtime.artifacts.onnx_file import read_onnx_file
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.predict.covering import Cover
from fcnkit.train.checkpoint import load_model
from fcnkit.train.models.upsample import SubpixelConvTranspose2d


class Scores(nn.Module):
    """A module from elsewhere, as its own documentation turns its result into scores per pixel."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = adopt_sources.OutOf(net)

    def forward(self, image_nchw: Tensor) -> Tensor:
        scores: Tensor = self.net(image_nchw)
        size = image_nchw.shape[2:]
        if scores.shape[2:] == size:
            return scores
        return F.interpolate(scores, size=size, mode="bilinear", align_corners=False)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One network in the forms that the ways take."""

    name: str
    spec: ModelSpec
    """Of one of the files of fcnkit."""
    make: Callable[[], nn.Module] | None
    """Makes the module, another one each time; None where there is only an ONNX file."""
    plain: Path
    """An ONNX file from normalized images to logits, as PyTorch's documentation exports it."""
    models: dict[Cover, Path]
    """The file of fcnkit for each cover. A checkpoint has one with head ``scores`` for both, where
    its network has that head. Other networks have one with head ``labels`` to pad, and one with
    head ``logits`` to average."""
    checkpoint: Path | None
    """For fcnkit's own backend ``torch``."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add SOURCE, and what must be said of networks from elsewhere."""
    words = "checkpoint, package.module:factory, or an ONNX file that gives scores"
    parser.add_argument("source", help=words)
    words = "classes of a network from elsewhere, which takes RGB images as ImageNet's networks do"
    parser.add_argument("--classes", type=int, help=words)


def open_subject(source: str, folder: Path, *, classes: int | None) -> Subject:
    """Bring a network into all forms; files are written into a folder."""
    if _is_factory(source):
        return _of_module(source, folder, classes)
    path = Path(source)
    return (
        _of_onnx(path, folder, classes) if path.suffix == ".onnx" else _of_checkpoint(path, folder)
    )


def with_plain_upsampling(net: nn.Module) -> nn.Module:
    """Put a plain transposed convolution, as everybody has it, in the place of each fast one."""
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SubpixelConvTranspose2d):
                setattr(parent, name, plain_transposed(child))
    return net.eval()


def module_of(source: str) -> nn.Module:
    """Make the module of a checkpoint or of a factory, another one each time."""
    if not _is_factory(source):
        return with_plain_upsampling(load_model(Path(source))[0])
    module, _, function = source.partition(":")
    return Scores(getattr(import_module(module), function)()).eval()


def _is_factory(source: str) -> bool:
    return ":" in source and not Path(source).exists()


def _of_checkpoint(path: Path, folder: Path) -> Subject:
    default = folder / "model.onnx"
    export_onnx(path, default)
    spec = _spec(default)
    models: dict[Cover, Path] = {"pad": default, "average": default}
    if spec.head != "scores":
        models["pad"] = folder / "labels.onnx"
        export_onnx(path, models["pad"], head="labels")
    return Subject(
        name=path.name,
        spec=spec,
        make=partial(module_of, str(path)),
        plain=export_plain(module_of(str(path)), spec, folder / "plain.onnx"),
        models=models,
        checkpoint=path,
    )


def _spec(model: Path) -> ModelSpec:
    return read_onnx_file(model).spec(where=str(model))


def _adopted(source: str, folder: Path, classes: int | None) -> dict[Cover, Path]:
    imagenet: dict[str, Any] = adopt_sources.IMAGENET
    claims = Claims(classes=classes, color="RGB", **imagenet)
    labels, logits = folder / "labels.onnx", folder / "logits.onnx"
    adopt(source, labels, claims=claims, head="labels")
    adopt(source, logits, claims=claims, head="logits")
    return {"pad": labels, "average": logits}


def _of_module(source: str, folder: Path, classes: int | None) -> Subject:
    models = _adopted(source, folder, classes)

    plain = folder / "plain.onnx"
    adopt_sources.export(module_of(source), plain, dynamo=False)
    return Subject(
        name=source,
        spec=_spec(models["average"]),
        make=partial(module_of, source),
        plain=plain,
        models=models,
        checkpoint=None,
    )


def _of_onnx(path: Path, folder: Path, classes: int | None) -> Subject:
    models: dict[Cover, Path]
    try:
        spec = _spec(path)
    except ArtifactError:  # a file of another tool
        models = _adopted(str(path), folder, classes)
        spec = _spec(models["average"])
    else:
        if spec.head != "logits":
            raise SystemExit(f"{path}: must have head logits to be run by others, got {spec.head}")
        models = {"average": path}
    return Subject(name=path.name, spec=spec, make=None, plain=path, models=models, checkpoint=None)


def export_plain(net: nn.Module, spec: ModelSpec, path: Path) -> Path:
    """Export as PyTorch's tutorial does: logits, the transposed convolutions as they are."""
    multiple = spec.input.multiple
    rows, columns = (torch.export.Dim(name, min=1, max=2048 // multiple) for name in "hw")
    torch.onnx.export(
        net,
        (torch.randn(1, 3, 320, 480),),
        path,
        input_names=["image"],
        output_names=["logits"],
        dynamo=True,
        dynamic_shapes=({2: multiple * rows, 3: multiple * columns},),
        external_data=False,
        verbose=False,
    )
    return path
