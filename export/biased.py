"""Making every class win somewhere, so that a model that gives labels only shows all its logits.

On noise, and on many data sets too, a few classes win nearly everywhere. A model with head
``labels`` or ``scene`` then says nothing about the others, and two of them may be swapped unseen.
So a number per class is added to the logits before the argmax, on both sides alike, and chosen such
that all classes win equally often.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.backends.onnxruntime import create_session

__all__ = ["BiasedLabels", "balancing_bias", "open_biased"]

BiasedLabels = Callable[[NDArray[np.uint8], NDArray[np.float64]], NDArray[np.int64]]
"""Takes pictures (N, H, W, 3) and a number per class, gives labels (N, H, W)."""

_BIAS: Final = "class_bias"
_ROUNDS: Final = 40
_PIXELS: Final = 4096


def balancing_bias(logits_nchw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the number per class with which all classes win about equally often.

    Args:
        logits_nchw: What was computed.

    Returns:
        float64 (C,).
    """
    classes = logits_nchw.shape[1]
    flat_cp = logits_nchw.transpose(1, 0, 2, 3).reshape(classes, -1)
    chosen_cp = flat_cp[:, :: max(1, flat_cp.shape[1] // _PIXELS)]
    bias: NDArray[np.float64] = -chosen_cp.mean(1)
    step = float((chosen_cp + bias[:, None]).std())
    for number in range(_ROUNDS):
        winners = (chosen_cp + bias[:, None]).argmax(0)
        shares = np.bincount(winners, minlength=classes) / winners.size
        bias += step * np.clip(1 - classes * shares, -1, 1) / (1 + number / 4)
    exact: NDArray[np.float64] = bias.astype(np.float32).astype(np.float64)
    return exact


def open_biased(path: Path, spec: ModelSpec, *, threads: int) -> BiasedLabels | None:
    """Open a copy of an ONNX file that adds a number per class before its argmax.

    Args:
        path: A file with head ``labels`` or ``scene``.
        spec: Its spec.
        threads: CPU threads of one call.

    Returns:
        What runs it in ONNX Runtime; None where the graph has no argmax of class scores.
    """
    model = onnx.load(path)
    shifted = _shift_scene(model) if spec.head == "scene" else _shift_labels(model)
    if not shifted:
        return None
    model.graph.input.append(
        helper.make_tensor_value_info(_BIAS, TensorProto.FLOAT, [spec.num_classes])
    )
    session: Any = create_session(
        model.SerializeToString(), name="onnxruntime", threads=threads, where=str(path)
    )
    names = spec.output.name, spec.input.name

    def run(image_nhwc: NDArray[np.uint8], bias: NDArray[np.float64]) -> NDArray[np.int64]:
        feeds = {names[1]: np.ascontiguousarray(image_nhwc), _BIAS: bias.astype(np.float32)}
        return np.asarray(session.run([names[0]], feeds)[0]).astype(np.int64)

    return run


def _shift_scene(model: onnx.ModelProto) -> bool:
    """Shift the tiles' logits, before their mean is taken."""
    graph = model.graph
    for place, node in enumerate(graph.node):
        if "logits" in node.output:
            node.output[:] = ["logits/plain" if n == "logits" else n for n in node.output]
            _insert(graph, place + 1, "logits/plain", "logits", rank=4)
            return True
    return False


def _shift_labels(model: onnx.ModelProto) -> bool:
    """Shift what each argmax over the classes reads."""
    graph = model.graph
    typed = onnx.shape_inference.infer_shapes(model).graph
    infos = (*typed.value_info, *typed.input, *typed.output)
    ranks = {info.name: len(info.type.tensor_type.shape.dim) for info in infos}
    # An adopted network may hold its own others.
    heads = "labels/" if any(node.name.startswith("labels/") for node in graph.node) else ""
    places = [
        place
        for place, node in enumerate(graph.node)
        if node.op_type == "ArgMax" and node.name.startswith(heads)
    ]
    for place in reversed(places):
        node = graph.node[place]
        plain = node.input[0]
        if ranks.get(plain, 0) < 3:
            return False
        node.input[0] = f"{plain}/biased{place}"
        _insert(graph, place, plain, node.input[0], rank=ranks[plain])
    return bool(places)


def _insert(graph: onnx.GraphProto, place: int, source: str, result: str, *, rank: int) -> None:
    """Add ``result = source + bias``, the bias along axis 1, in float32."""
    shape = numpy_helper.from_array(np.array([-1, *[1] * (rank - 2)]), f"{result}/shape")
    graph.initializer.append(shape)
    nodes = [
        helper.make_node("Cast", [source], [f"{result}/float"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", [_BIAS, shape.name], [f"{result}/bias"]),
        helper.make_node("Add", [f"{result}/float", f"{result}/bias"], [result]),
    ]
    for offset, node in enumerate(nodes):
        graph.node.insert(place + offset, node)
