"""The int8 kernels of the libraries on x86 without VNNI, where they overflow by default."""

from __future__ import annotations

import platform
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from fcnkit.export.to_onnx import export_onnx
from fcnkit.runtime import open_backend
from fcnkit.runtime.backends import openvino
from fcnkit.runtime.backends.onnxruntime import create_session

CHANNELS = 32
IMAGE = np.full((1, CHANNELS, 8, 8), 255, np.uint8)


def convolution(weights: np.ndarray[Any, np.dtype[np.int8]], kind: int) -> bytes:
    """Write a convolution between QuantizeLinear and DequantizeLinear, every scale 1."""
    number = helper.tensor_dtype_to_np_dtype(kind)
    constants = {
        "one": np.float32(1),
        "zero": number.type(0),
        "weights": weights,
        "ones": np.ones(len(weights), np.float32),
        "zeros": np.zeros(len(weights), np.int8),
        # What comes out is a multiple of 2**16, so that it fits an int8.
        "large": np.float32(2**16),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "one", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["weights", "ones", "zeros"], ["w"], axis=0),
        helper.make_node("Conv", ["d", "w"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "large", "zero"], ["e"]),
        helper.make_node("DequantizeLinear", ["e", "large", "zero"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, IMAGE.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.INT8], ids=["uint8", "int8"])
def test_large_products_do_not_overflow(kind: int) -> None:
    largest = 255 if kind == TensorProto.UINT8 else 127
    weights = np.full((16, CHANNELS, 3, 3), 127, np.int8)
    session = create_session(
        convolution(weights, kind), name="onnxruntime", threads=1, where="a convolution"
    )
    [result] = session.run(None, {"x": IMAGE.astype(np.float32)})
    exact = largest * 127 * CHANNELS * 9
    assert result.shape == (1, 16, 6, 6)
    assert (result == round(exact / 2**16) * 2**16).all()


def test_the_fast_kernels_can_be_asked_for() -> None:
    weights = np.full((16, CHANNELS, 3, 3), 1, np.int8)
    session = create_session(
        convolution(weights, TensorProto.UINT8),
        name="onnxruntime",
        threads=1,
        where="a convolution",
        options={"session.x64quantprecision": "0"},
    )
    options = session.get_session_options()
    assert options.get_session_config_entry("session.x64quantprecision") == "0"


def flags() -> set[str]:
    return set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())


@pytest.mark.skipif(sys.platform != "linux", reason="Linux lists a processor's instructions")
def test_openvino_overflows_where_the_processor_has_no_vnni() -> None:
    x86 = platform.machine() == "x86_64"
    vnni = {"avx512_vnni", "avx_vnni", "amx_int8"} & flags()
    assert openvino.int8_overflows() == (x86 and not vnni)


@pytest.mark.parametrize("overflows", [False, True])
def test_an_int8_file_that_may_overflow_is_named(
    run_folder: Path,
    shapes_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    overflows: bool,
) -> None:
    path = tmp_path / "m.onnx"
    monkeypatch.setattr(openvino, "int8_overflows", lambda: overflows)
    options: Any = {"precision": "int8", "calibration": shapes_folder, "max_miou_drop": 0.2}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # The export compares OpenVINO with ONNX Runtime itself.
        export_onnx(run_folder / "best.pt", path, head="labels", max_pixels=2**16, **options)
    text = (
        f"{path}: openvino computes int8 exactly on processors with VNNI, got one without it, "
        "where large products overflow; use --backend onnxruntime, or try it: fcnkit verify FP32 "
        "INT8 --backend openvino"
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_backend(path, backend="openvino").close()
        open_backend(path, backend="onnxruntime").close()
    assert [str(one.message) for one in caught] == [text] * overflows
