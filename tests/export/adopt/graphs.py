"""Small ONNX graphs as other tools write them, made without fcnkit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

CLASSES = 5
NodeProto = onnx.NodeProto


def weights(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> NDArray[np.float32]:
        return random.normal(size=shape).astype(np.float32)

    return {
        "first": draw(8, 3, 3, 3),
        "second": draw(CLASSES, 8, 3, 3),
        "side": draw(CLASSES, 3, 1, 1),
        "bias": draw(CLASSES),
    }


def save(
    path: Path,
    nodes: Sequence[NodeProto],
    *,
    output: str = "y",
    kind: int = TensorProto.FLOAT,
    dims: Sequence[int | str] = ("n", 3, "h", "w"),
    rank: int = 4,
    opset: int = 18,
    more_weights: dict[str, NDArray[np.float32]] | None = None,
    more_outputs: Sequence[str] = (),
    domains: Sequence[str] = (),
    dtype: int = TensorProto.FLOAT,
) -> Path:
    """Write a graph with input ``x`` and the stored weights of ``weights()``."""
    stored = {**weights(), **(more_weights or {})}
    used = {name for node in nodes for name in node.input}
    free = [f"d{axis}" for axis in range(rank)]
    outputs = [helper.make_tensor_value_info(output, kind, free)]
    outputs += [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["a", "b", "c", "d"])
        for name in more_outputs
    ]
    graph = helper.make_graph(
        list(nodes),
        "other tool",
        [helper.make_tensor_value_info("x", dtype, list(dims))],
        outputs,
        [numpy_helper.from_array(v, name) for name, v in stored.items() if name in used],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def coarse(source: str = "x", result: str = "y") -> list[NodeProto]:
    """Scores of a quarter of the image's sides: what SegFormer gives."""
    return [
        helper.make_node(
            "Conv", [source, "first"], ["f"], "/enc/c1/Conv", strides=[2, 2], pads=[1, 1, 1, 1]
        ),
        helper.make_node("Relu", ["f"], ["r"], "/enc/Relu"),
        helper.make_node(
            "Conv",
            ["r", "second", "bias"],
            [result],
            "/head/Conv",
            strides=[2, 2],
            pads=[1, 1, 1, 1],
        ),
    ]


def full(result: str = "y") -> list[NodeProto]:
    """Scores of the image's size, from a graph that reads its input three times."""
    return [
        *coarse("x", "coarse"),
        helper.make_node("Shape", ["x"], ["size"], "s", start=2),
        helper.make_node("Shape", ["coarse"], ["lead"], "l", end=2),
        helper.make_node("Concat", ["lead", "size"], ["sizes"], "cat", axis=0),
        helper.make_node(
            "Resize",
            ["coarse", "", "", "sizes"],
            ["large"],
            "up",
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        ),
        helper.make_node("Conv", ["x", "side"], ["skip"], "skip"),
        helper.make_node("Add", ["large", "skip"], [result], "sum"),
    ]


def argmax(*, keepdims: int = 0, result: str = "y") -> list[NodeProto]:
    """Labels: the graph takes the argmax itself."""
    best = helper.make_node("ArgMax", ["scores"], [result], "best", axis=1, keepdims=keepdims)
    return [*full("scores"), best]


def run(path: Path, image_nchw: NDArray[np.float32], output: str = "y") -> NDArray[np.float32]:
    """What the file itself gives."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    result: NDArray[np.float32] = session.run([output], {"x": image_nchw})[0]
    return result


def image(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Noise over patches."""
    random = np.random.default_rng(seed)
    patches = random.integers(0, 256, (-(-height // 9), -(-width // 9), 3))
    wide = patches.repeat(9, 0).repeat(9, 1)[:height, :width]
    return (wide + random.integers(-30, 31, wide.shape)).clip(0, 255).astype(np.uint8)
