"""The core of an adopted network: its cleaned graph, completed to scores as large as the image."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fcnkit.export.adopt.claims import ColorOrder, Upsampling
from fcnkit.export.adopt.foreign_graph import FINE, IMAGE
from fcnkit.export.adopt.probing import Facts
from fcnkit.export.heads import Core
from fcnkit.runtime.artifacts.onnx_precision import module_of

__all__ = ["foreign_core", "swap_channels"]

_MODES: Final[dict[Upsampling, str]] = {
    "bilinear": "half_pixel",
    "align-corners": "align_corners",
}


def foreign_core(
    model: onnx.ModelProto,
    facts: Facts,
    *,
    classes: int,
    color: ColorOrder,
    upsample: Upsampling,
) -> Core:
    """Complete a cleaned graph.

    Args:
        model: The graph; left as it is.
        facts: What was found out about it.
        classes: K.
        color: Its order of channels.
        upsample: How scores of a lower resolution are enlarged.

    Returns:
        The core: normalized RGB in, scores of the image's size or labels out.
    """
    work = onnx.ModelProto()
    work.CopyFrom(model)
    graph = work.graph
    if color == "BGR":
        swap_channels(graph)
    if facts.gives_labels:
        _plain_labels(graph, facts.rank)
    elif facts.stride > 1:
        _enlarge(graph, facts.stride, _MODES[upsample])
    kind = TensorProto.INT64 if facts.gives_labels else TensorProto.FLOAT
    sides = [None, None]
    dims = [None, *sides] if facts.gives_labels else [None, classes, *sides]
    graph.output[0].CopyFrom(helper.make_tensor_value_info(FINE, kind, dims))
    graph.input[0].CopyFrom(
        helper.make_tensor_value_info(IMAGE, TensorProto.FLOAT, [None, 3, *sides])
    )
    del graph.value_info[:]
    return Core(
        model=work,
        stride=1,
        classes=classes,
        scores=_score_modules(graph),
        multiple=facts.multiple,
        gives_labels=facts.gives_labels,
    )


def swap_channels(graph: onnx.GraphProto) -> None:
    """Let the graph take RGB where it takes BGR."""
    order = numpy_helper.from_array(np.array([2, 1, 0]), "color/order")
    graph.initializer.append(order)
    for node in graph.node:
        node.input[:] = ["color/image" if name == IMAGE else name for name in node.input]
    swap = helper.make_node("Gather", [IMAGE, order.name], ["color/image"], "color/Gather", axis=1)
    graph.node.insert(0, swap)


def _free_output(graph: onnx.GraphProto, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if name == FINE else name for name in node.input]
        node.output[:] = [new if name == FINE else name for name in node.output]


def _enlarge(graph: onnx.GraphProto, stride: int, mode: str) -> None:
    """Add the network's own rule of upsampling."""
    _free_output(graph, "upsample/coarse")
    scales = numpy_helper.from_array(
        np.array([1, 1, stride, stride], np.float32), "upsample/scales"
    )
    graph.initializer.append(scales)
    graph.node.append(
        helper.make_node(
            "Resize",
            ["upsample/coarse", "", scales.name],
            [FINE],
            "upsample/Resize",
            mode="linear",
            coordinate_transformation_mode=mode,
        )
    )


def _plain_labels(graph: onnx.GraphProto, rank: int) -> None:
    """Bring labels of any integer type and (N, 1, H, W) or (N, H, W) to int64 (N, H, W)."""
    _free_output(graph, "given/labels")
    source = "given/labels"
    if rank == 4:
        axis = numpy_helper.from_array(np.array([1]), "given/axis")
        graph.initializer.append(axis)
        graph.node.append(
            helper.make_node("Squeeze", [source, axis.name], ["given/plane"], "given/Squeeze")
        )
        source = "given/plane"
    graph.node.append(
        helper.make_node("Cast", [source], [FINE], "given/Cast", to=TensorProto.INT64)
    )


def _score_modules(graph: onnx.GraphProto) -> tuple[str, ...]:
    """Return what int8 keeps in float32: the convolutions next to the output, and transposed ones.

    The scores lose most by 8 bits, and the quantizer leaves transposed convolutions as they are.
    """
    makers = {name: node for node in graph.node for name in node.output}
    found = dict.fromkeys(
        module_of(node.name) for node in graph.node if node.op_type == "ConvTranspose"
    )
    seen: set[str] = set()
    waiting = [FINE]
    while waiting:
        name = waiting.pop()
        node = makers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type == "Conv":
            found[module_of(node.name)] = None
        else:
            waiting.extend(node.input)
    return tuple(found)
