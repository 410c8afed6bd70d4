"""Int8 as a property of the graph: explicit Q/DQ nodes by ONNX Runtime's static quantizer."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from fcnkit.export.choices import Activations

__all__ = ["to_int8"]

_SETTINGS: Final[dict[Activations, tuple[QuantType, bool]]] = {
    "uint8": (QuantType.QUInt8, False),
    "int8": (QuantType.QInt8, True),
}


def to_int8(
    model: onnx.ModelProto,
    inputs: Iterable[NDArray[Any]],
    *,
    kept: Callable[[str], bool],
    activations: Activations = "uint8",
) -> onnx.ModelProto:
    """Return a copy of a float32 graph whose convolutions compute in int8.

    Weights are symmetric int8 with a scale per output channel. Activations have one scale per
    tensor, from the smallest and the largest value seen.

    Args:
        model: A checked model with one input.
        inputs: What it is fed to find the ranges of its activations.
        kept: Says by its name whether a node stays in float32.
        activations: How activations are written.

    Returns:
        The copy; between QuantizeLinear and DequantizeLinear stands what a runtime may fuse.
    """
    source = model.graph.input[0].name
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    kind, symmetric = _SETTINGS[activations]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)  # the quantizer moves the weights of what it is given into a file
    with tempfile.TemporaryDirectory() as folder, _quiet():
        out = Path(folder) / "int8.onnx"
        quantize_static(
            copy,
            out,
            _Reader(source, inputs),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=[name for name in convolutions if kept(name)],
            per_channel=True,
            activation_type=kind,
            weight_type=QuantType.QInt8,
            extra_options={
                "ActivationSymmetric": symmetric,
                "WeightSymmetric": True,
                # TensorRT does not dequantize int32, and ONNX Runtime quantizes a float bias
                # itself.
                "QuantizeBias": False,
            },
        )
        result: onnx.ModelProto = onnx.load(out)
    plain = [entry for entry in result.opset_import if entry.domain in ("", "ai.onnx")]
    del result.opset_import[:], result.metadata_props[:], result.graph.value_info[:]
    result.opset_import.extend(plain)
    onnx.checker.check_model(result, full_check=True)
    return result


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Hands one array after the other to the quantizer."""

    def __init__(self, name: str, inputs: Iterable[NDArray[Any]]) -> None:
        self._feeds = ({name: np.ascontiguousarray(batch)} for batch in inputs)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._feeds, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer's advice, which it gives to the root logger, from the user."""
    root = logging.getLogger()

    def drop(record: logging.LogRecord) -> bool:
        return "onnxruntime" not in record.pathname

    root.addFilter(drop)
    try:
        yield
    finally:
        root.removeFilter(drop)
