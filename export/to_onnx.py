"""Checkpoint to ONNX: typed, verified against PyTorch, with the ModelSpec inside."""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from fcnkit.errors import message
from fcnkit.export.graphs import LabelsGraph, LogitsGraph, TilesGraph, frozen_copy
from fcnkit.export.scene import wrap_scene
from fcnkit.export.verify import VerifyReport, verify_onnx
from fcnkit.runtime.files import atomic_path, sha256_of
from fcnkit.runtime.spec import (
    METADATA_KEY,
    Head,
    InputSpec,
    ModelSpec,
    OutputSpec,
    Shape,
    ShapeRange,
    SourceSpec,
)
from fcnkit.train.checkpoint import load_model
from fcnkit.train.models import SegmentationNet

__all__ = ["export_onnx"]

OPSET = 20
_SCENE_MAX: Shape = (1, 4096, 4096)


def export_onnx(checkpoint: Path, out: Path, *, head: Head = "logits") -> VerifyReport:
    """Write a checkpoint's network as ONNX and run it against PyTorch before the file appears.

    Args:
        checkpoint: A best.pt or last.pt.
        out: The .onnx file; its folder exists.
        head: What the graph computes, see the ModelSpec.

    Returns:
        What the comparison measured; it is also in the file's spec.

    Raises:
        ArtifactError: The checkpoint is none.
        ValueError: out does not end in .onnx or its folder does not exist.
        VerifyError: The exported model does not compute what PyTorch computes; no file is left.
    """
    if out.suffix != ".onnx":
        raise ValueError(message("-o", "must end in .onnx", str(out), "name it model.onnx"))
    if not out.parent.is_dir():
        rule = "its folder must exist"
        raise ValueError(message("-o", rule, str(out.parent), "create it first"))
    net, loaded = load_model(checkpoint)
    spec = head_spec(loaded.spec, head, sha256=sha256_of(checkpoint))
    model = build_graph(net, spec)
    with atomic_path(out) as temporary:
        _save(model, spec, temporary)
        report = verify_onnx(temporary, net)
        _save(model, spec.with_parity(report.summary()), temporary)
    return report


def build_graph(net: SegmentationNet, spec: ModelSpec) -> onnx.ModelProto:
    """Export a network as the graph of a head, without metadata.

    Args:
        net: The network.
        spec: Says which head.

    Returns:
        The ONNX model; its sides are declared as ``32*h`` and ``32*w`` except for ``scene``.
    """
    frozen = frozen_copy(net)
    if spec.head == "logits":
        example = torch.zeros(2, 3, 64, 96)
        return trace(LogitsGraph(frozen), example, "image", "logits")
    example = torch.zeros(2, 64, 96, 3, dtype=torch.uint8)
    if spec.head == "labels":
        return trace(LabelsGraph(frozen, spec), example, "image", "labels")
    middle = trace(TilesGraph(frozen, spec), example.float(), "tiles", "logits")
    return wrap_scene(middle)


def trace(graph: nn.Module, example: torch.Tensor, source: str, result: str) -> onnx.ModelProto:
    """Export a module with free batch size and sides that are multiples of 32.

    Args:
        graph: Takes one tensor, gives one.
        example: (N, 3, H, W) or (N, H, W, 3), which tells the layout; N at least 2.
        source: Name for the input.
        result: Name for the output.

    Returns:
        The ONNX model, dims declared ``n``, ``32*h`` and ``32*w``, free of the exporter's notes.
    """
    rows, columns = (1, 2) if example.shape[3] == 3 else (2, 3)
    batch, height, width = (torch.export.Dim(name) for name in ("n", "h", "w"))
    shapes: dict[int, Any] = {0: batch, rows: 32 * height, columns: 32 * width}
    with warnings.catch_warnings():
        # The exporter warns of its own deprecated internals and logs what it optimised.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            graph.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[source],
            output_names=[result],
            dynamic_shapes=(shapes,),
            verbose=False,
        )
    if program is None:
        raise AssertionError  # only for type checkers: dynamo=True gives a program
    model: onnx.ModelProto = program.model_proto
    _strip(model)
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes: stack traces that name folders of this machine, and such."""
    graph = model.graph
    del model.metadata_props[:], graph.metadata_props[:]
    for entry in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        entry.ClearField("doc_string")
        del entry.metadata_props[:]


def head_spec(spec: ModelSpec, head: Head, *, sha256: str) -> ModelSpec:
    """Turn a checkpoint's spec into the one of an exported head.

    Args:
        spec: The checkpoint's.
        head: What the graph computes.
        sha256: Of the checkpoint file.

    Returns:
        The spec, parity not yet known.
    """
    versions = {
        "fcnkit": version("fcnkit"),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
    }
    source = SourceSpec(sha256=sha256, parity=None)
    if head == "logits":
        return replace(spec, source=source, versions=versions)
    return replace(
        spec,
        head=head,
        source=source,
        versions=versions,
        input=_uint8_input(spec.input, multiple=32 if head == "labels" else 1),
        output=OutputSpec(name="labels", layout="NHW", dtype="uint8"),
        shapes=spec.shapes if head == "labels" else _scene_shapes(spec.shapes),
    )


def _uint8_input(given: InputSpec, *, multiple: int) -> InputSpec:
    return replace(given, layout="NHWC", dtype="uint8", multiple=multiple)


def _scene_shapes(given: ShapeRange) -> ShapeRange:
    return ShapeRange(min=(1, 32, 32), opt=(1, *given.opt[1:]), max=_SCENE_MAX)


def _save(model: onnx.ModelProto, spec: ModelSpec, path: Path) -> None:
    """Write the model with its spec, and with the few lines a reader of Netron looks for."""
    model.producer_name, model.producer_version = "fcnkit", version("fcnkit")
    properties = {
        METADATA_KEY: spec.to_json(),
        "architecture": spec.architecture,
        "head": spec.head,
        "classes": ", ".join(spec.classes),
        "stride": "32",
    }
    onnx.helper.set_model_props(model, properties)
    onnx.save(model, path)
