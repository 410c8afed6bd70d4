"""Networks of two convolutions whose types are written by hand: fp32, fp16 and int8."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from fcnkit.runtime.artifacts.spec import METADATA_KEY, Precision
from tests.runtime.models import CLASSES, make_spec

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def write_typed(
    path: Path,
    computes: tuple[Precision, Precision],
    *,
    says: Precision,
    kept: str = "",
    result: int = FLOAT,
    zero: int = 0,
) -> Path:
    """Write head ``logits`` as two convolutions, ``net.first`` and ``net.last``.

    Args:
        path: Where.
        computes: What each convolution computes in.
        says: What the spec states.
        kept: The metadata of modules kept in fp32.
        result: The ONNX type of the logits.
        zero: Zero point of quantized pictures.
    """
    random = np.random.default_rng(3)
    nodes: list[NodeProto] = []
    tensors = []
    tensor = "image"
    for name, channels, precision in (("first", 3, computes[0]), ("last", 8, computes[1])):
        maps = 8 if name == "first" else len(CLASSES)
        kernel = random.normal(0, 0.2, (maps, channels, 3, 3)).astype(np.float32)
        ins, outs = f"{name}_in", f"{name}_out"
        if precision == "int8":
            step = np.float32(0.02)
            levels = np.clip(np.round(kernel / step), -127, 127).astype(np.int8)
            tensors += [
                numpy_helper.from_array(np.array(0.05, np.float32), f"{name}_scale"),
                numpy_helper.from_array(np.array(zero, np.int8), f"{name}_zero"),
                numpy_helper.from_array(levels, f"{name}_levels"),
                numpy_helper.from_array(np.full(maps, step), f"{name}_steps"),
                numpy_helper.from_array(np.zeros(maps, np.int8), f"{name}_zeros"),
            ]
            scale, steps = (f"{name}_scale", f"{name}_zero"), (f"{name}_steps", f"{name}_zeros")
            nodes += [
                helper.make_node("QuantizeLinear", [tensor, *scale], [f"{name}_q"]),
                helper.make_node("DequantizeLinear", [f"{name}_q", *scale], [ins]),
                helper.make_node(
                    "DequantizeLinear", [f"{name}_levels", *steps], [f"{name}_kernel"], axis=0
                ),
            ]
        else:
            wanted, dtype = (HALF, np.float16) if precision == "fp16" else (FLOAT, np.float32)
            tensors.append(numpy_helper.from_array(kernel.astype(dtype), f"{name}_kernel"))
            nodes.append(helper.make_node("Cast", [tensor], [ins], to=wanted))
        conv = helper.make_node(
            "Conv", [ins, f"{name}_kernel"], [outs], f"net.{name}/Conv", pads=[1] * 4
        )
        tensor = f"{name}_result"
        to = result if name == "last" else FLOAT
        nodes += [conv, helper.make_node("Cast", [outs], [tensor], to=to)]
    nodes[-1].output[0] = "logits"
    graph = helper.make_graph(
        nodes,
        "typed",
        [helper.make_tensor_value_info("image", FLOAT, ["N", 3, "32*h", "32*w"])],
        [helper.make_tensor_value_info("logits", result, ["N", len(CLASSES), "32*h", "32*w"])],
        tensors,
    )
    opset = helper.make_opsetid("", 20)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    spec = replace(make_spec("logits"), precision=says)
    helper.set_model_props(model, {METADATA_KEY: spec.to_json(), "kept_fp32": kept})
    onnx.save(model, path)
    return path
