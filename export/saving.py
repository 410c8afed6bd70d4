"""Writes a graph with its spec into an ONNX file."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import onnx

from fcnkit.runtime.artifacts.onnx_file import SEAL_KEY, read_onnx_bytes
from fcnkit.runtime.artifacts.spec import METADATA_KEY, ModelSpec, format_shape

__all__ = ["save_model"]


def save_model(
    model: onnx.ModelProto, spec: ModelSpec, path: Path, *, notes: dict[str, str] | None = None
) -> None:
    """Write the model with its spec, and with the few lines a reader of Netron looks for.

    Args:
        model: The graph; its metadata is replaced.
        spec: What it promises.
        path: The file.
        notes: More lines; empty ones are left out.
    """
    # The lowest version that the operators need, because older libraries refuse higher ones.
    model.ir_version = onnx.helper.find_min_ir_version_for(list(model.opset_import))
    model.producer_name, model.producer_version = "fcnkit", version("fcnkit")
    given, shapes = spec.input, spec.shapes
    results = (f"{one.name} {one.dtype} {one.layout}" for one in spec.outputs)
    mean, std = (" ".join(f"{v:g}" for v in values) for values in (given.mean, given.std))
    properties = {
        METADATA_KEY: spec.to_json(),
        "architecture": spec.architecture,
        "head": spec.head,
        "precision": spec.precision,
        "input": f"{given.name} {given.dtype} {given.layout} {given.color}",
        "output": ", ".join(results),
        "normalization": f"(x / 255 - mean) / std, mean {mean}, std {std}",
        "shapes": ", ".join(map(format_shape, (shapes.min, shapes.opt, shapes.max))),
        "classes": ", ".join(spec.classes),
        "multiple": str(given.multiple),
        "source_sha256": spec.source.sha256 or "",
        "parity": spec.source.parity or "",
        **(notes or {}),
    }
    filled = {key: value for key, value in properties.items() if value}
    onnx.helper.set_model_props(model, filled)
    seal = read_onnx_bytes(model.SerializeToString(), where=str(path)).seal
    onnx.helper.set_model_props(model, {**filled, SEAL_KEY: seal})
    onnx.save(model, path)
