"""Rewrites an ONNX graph for the libraries of browsers.

On WebGPU, onnxruntime-web 1.30 computes a convolution wrongly if its kernel is larger than 1x1 and
its input has more than four channels, and not a multiple of four (ONNX Runtime issue 29651). The
last layer of most networks is one: its input has one channel per class. Channels of zeros, with
weights of zero, make it a multiple of four and change nothing else.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["fill_channels"]


def fill_channels(model: onnx.ModelProto) -> int:
    """Give the convolutions that WebGPU would compute wrongly a multiple of four input channels.

    Args:
        model: The model; it is changed in place. Convolutions of quantized weights are left alone.

    Returns:
        How many convolutions were changed.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    filled: dict[tuple[str, int], str] = {}
    changed = 0
    for node in graph.node:
        weight = weights.get(node.input[1]) if node.op_type == "Conv" else None
        missing = _missing_channels(weight, node) if weight is not None else 0
        if weight is not None and missing:
            key = (node.input[0], missing)
            if key not in filled:
                filled[key] = f"web/{len(filled)}/filled"
                nodes.append(_pad_node(graph, *key, len(weight.dims), filled[key]))
            node.input[0] = filled[key]
            node.input[1] = _grown(graph, weight, missing)
            changed += 1
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return changed


def _missing_channels(weight: onnx.TensorProto, node: onnx.NodeProto) -> int:
    group = next((a.i for a in node.attribute if a.name == "group"), 1)
    channels, *kernel = weight.dims[1:]
    wrong = group == 1 and channels > 4 and any(side > 1 for side in kernel)
    return -channels % 4 if wrong else 0


def _pad_node(
    graph: onnx.GraphProto, source: str, missing: int, axes: int, name: str
) -> onnx.NodeProto:
    """Append channels of zeros."""
    # For all axes; OpenVINO before 2026 overlooks the axes of a Pad.
    amounts = np.zeros(2 * axes, np.int64)
    amounts[axes + 1] = missing
    graph.initializer.append(numpy_helper.from_array(amounts, f"{name}/amounts"))
    return helper.make_node("Pad", [source, f"{name}/amounts"], [name], name=name)


def _grown(graph: onnx.GraphProto, weight: onnx.TensorProto, missing: int) -> str:
    """Add weights of zero for the new channels; return the name of the new weights."""
    name = f"{weight.name}/filled"
    if all(tensor.name != name for tensor in graph.initializer):
        values = numpy_helper.to_array(weight)
        around = [(0, missing) if axis == 1 else (0, 0) for axis in range(values.ndim)]
        graph.initializer.append(numpy_helper.from_array(np.pad(values, around), name))
    return name
