"""Int8 as a property of the graph: explicit Q/DQ nodes by ONNX Runtime's static quantizer."""

from __future__ import annotations

import contextlib
import io
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
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    create_calibrator,
)
from onnxruntime.quantization.calibrate import TensorsData

from fcnkit.export.choices import Activations, Ranges

__all__ = ["find_ranges", "to_int8"]

_SETTINGS: Final[dict[Activations, tuple[QuantType, bool]]] = {
    "uint8": (QuantType.QUInt8, False),
    "int8": (QuantType.QInt8, True),
}
_METHODS: Final[dict[Ranges, tuple[CalibrationMethod, dict[str, object]]]] = {
    "minmax": (CalibrationMethod.MinMax, {}),
    "percentile": (CalibrationMethod.Percentile, {"percentile": 99.99}),
    "entropy": (CalibrationMethod.Entropy, {}),
}


def find_ranges(
    model: onnx.ModelProto,
    inputs: Iterable[NDArray[Any]],
    *,
    ranges: Ranges = "minmax",
    activations: Activations = "uint8",
) -> TensorsData:
    """Run a float32 graph to find the range of every tensor that a convolution reads or writes.

    Args:
        model: A checked model with one input.
        inputs: What it is fed, an array after the other.
        ranges: How a range is chosen.
        activations: How activations will be written.

    Returns:
        The ranges by the names of the tensors.
    """
    method, options = _METHODS[ranges]
    if ranges != "minmax":
        options = {**options, "symmetric": _SETTINGS[activations][1]}
    source = model.graph.input[0].name
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "plain.onnx"
        onnx.save(model, path)
        calibrator = create_calibrator(
            path,
            ["Conv"],
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=method,
            extra_options=options,
        )
        for batch in inputs:
            # One at a time: for histograms all values of all tensors are held until it returns.
            calibrator.collect_data(_Reader(source, batch))
        return calibrator.compute_data()


def to_int8(
    model: onnx.ModelProto,
    ranges: TensorsData,
    *,
    kept: Callable[[str], bool],
    activations: Activations = "uint8",
) -> onnx.ModelProto:
    """Return a copy of a float32 graph whose convolutions compute in int8.

    Weights are symmetric int8 with a scale per output channel. Activations have one scale per
    tensor.

    Args:
        model: A checked model with one input.
        ranges: Of its tensors, see find_ranges.
        kept: Says by its name whether a node stays in float32.
        activations: How activations are written.

    Returns:
        The copy; between QuantizeLinear and DequantizeLinear stands what a runtime may fuse.
    """
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    kind, symmetric = _SETTINGS[activations]
    with _quiet():
        quantizer = QDQQuantizer(
            onnx.shape_inference.infer_shapes(model),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=kind,
            tensors_range=ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=[name for name in convolutions if kept(name)],
            op_types_to_quantize=["Conv"],
            extra_options={
                "ActivationSymmetric": symmetric,
                "WeightSymmetric": True,
                # TensorRT does not dequantize int32, and ONNX Runtime quantizes a float bias
                # itself.
                "QuantizeBias": False,
            },
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    result: onnx.ModelProto = quantizer.model.model
    plain = [entry for entry in result.opset_import if entry.domain in ("", "ai.onnx")]
    del result.opset_import[:], result.metadata_props[:], result.graph.value_info[:]
    result.opset_import.extend(plain)
    onnx.checker.check_model(result, full_check=True)
    return result


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Hands one array to the calibrator."""

    def __init__(self, name: str, batch: NDArray[Any]) -> None:
        self._feeds = iter([{name: np.ascontiguousarray(batch)}])

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._feeds, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the user what the quantizer prints, and its advice to the root logger."""
    root = logging.getLogger()

    def drop(record: logging.LogRecord) -> bool:
        return "onnxruntime" not in record.pathname

    root.addFilter(drop)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.removeFilter(drop)
