"""Bias correction: takes out of each convolution the mean error that its rounded weights make.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
2019, section 4.2, with the means of the inputs measured on the calibration pictures.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["correct_biases", "input_means"]

Array = NDArray[np.float32]


def input_means(model: onnx.ModelProto, inputs: Iterable[NDArray[Any]]) -> dict[str, Array]:
    """Measure the mean of every channel that a convolution reads.

    Args:
        model: A float32 graph with one input.
        inputs: What it is fed, batches of the same size or another; each batch counts alike.

    Returns:
        float32 (C,) by the name of the tensor.
    """
    measuring = onnx.ModelProto()
    measuring.CopyFrom(model)
    graph, source = measuring.graph, model.graph.input[0].name
    tensors = list(dict.fromkeys(node.input[0] for node in graph.node if node.op_type == "Conv"))
    axes = numpy_helper.from_array(np.array([0, 2, 3], np.int64), "fcnkit.mean.axes")
    graph.initializer.append(axes)
    del graph.output[:]
    for index, tensor in enumerate(tensors):
        name = f"fcnkit.mean.{index}"
        graph.node.append(helper.make_node("ReduceMean", [tensor, axes.name], [name], keepdims=0))
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]))
    session = onnxruntime.InferenceSession(
        measuring.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    rows = [session.run(None, {source: np.ascontiguousarray(batch)}) for batch in inputs]
    means = (np.mean(column, axis=0) for column in zip(*rows, strict=True))
    return dict(zip(tensors, means, strict=True))


def correct_biases(
    quantized: onnx.ModelProto, plain: onnx.ModelProto, means: dict[str, Array]
) -> None:
    """Shift the bias of every int8 convolution by the mean error of its weights.

    At the border, where less of a kernel lies on the image, the shift is not exact.

    Args:
        quantized: Of to_int8; changed in place.
        plain: The float32 graph that it was made of.
        means: Of the inputs of its convolutions, see input_means.
    """
    before = {node.name: node for node in plain.graph.node if node.op_type == "Conv"}
    exact = _arrays(plain)
    rounded = _arrays(quantized)
    makers = {name: node for node in quantized.graph.node for name in node.output}
    for node in quantized.graph.node:
        weight = makers.get(node.input[1]) if node.op_type == "Conv" else None
        if weight is None or weight.op_type != "DequantizeLinear":
            continue
        values, scales = (rounded[name] for name in weight.input[:2])
        was = before[node.name]
        wrong_oikk = values * scales.reshape(-1, 1, 1, 1) - exact[was.input[1]]
        shift_o = _mean_result(wrong_oikk, means[was.input[0]])
        bias = exact.get(was.input[2]) if len(was.input) > 2 else np.zeros(len(values))
        if bias is None:
            continue  # computed by other nodes
        name = f"{node.name}/corrected_bias"
        corrected = numpy_helper.from_array((bias - shift_o).astype(np.float32), name)
        quantized.graph.initializer.append(corrected)
        node.input[:] = [*node.input[:2], name]
    read = {name for node in quantized.graph.node for name in node.input}
    for initializer in [one for one in quantized.graph.initializer if one.name not in read]:
        quantized.graph.initializer.remove(initializer)


def _mean_result(weight_oikk: Array, mean_c: Array) -> Array:
    """Return what a convolution gives for a constant image, (O,)."""
    outputs, inputs = weight_oikk.shape[:2]
    groups = len(mean_c) // inputs
    mean_gi = mean_c.reshape(groups, inputs).repeat(outputs // groups, axis=0)
    result: Array = (weight_oikk.sum((2, 3)) * mean_gi).sum(1)
    return result


def _arrays(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
