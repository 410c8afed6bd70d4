"""The last layer of a network, where it only enlarges class scores: found and cut off.

Two forms exist. fcnkit's networks end in a transposed convolution. Networks from elsewhere end in a
bilinear resize, which is the transposed convolution that enlarges every class by itself, with the
nearest score outside the border.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper

from fcnkit.runtime.artifacts.last_layer import LastLayerWeights
from fcnkit.runtime.artifacts.spec import STRIDES
from fcnkit.runtime.backends.onnxruntime import create_session
from fcnkit.runtime.pixels.upsampling import MOST_DENSE
from fcnkit.train.models.upsample import SubpixelConvTranspose2d, bilinear_kernel

__all__ = ["FEATURES", "NO_SCORES", "of_layer", "of_resize", "prune"]

NO_SCORES: Final = "whose last step does not enlarge class scores"
"""Why a network has no head ``scores``, where nothing more is known."""

FEATURES: Final = "whose last layer upsamples features"

_HALF_PIXEL: Final = ("half_pixel", "pytorch_half_pixel")
"""Rules of a resize that are bilinear without align_corners; they differ for one pixel only."""


def of_layer(layer: SubpixelConvTranspose2d, classes: int) -> LastLayerWeights | str:
    """Read a transposed convolution from class scores to logits.

    Args:
        layer: The layer.
        classes: K.

    Returns:
        Its weights, without the zeros between the classes where there are no others; why it cannot
        be left to the runtime otherwise.
    """
    weight = layer.weight.detach().cpu().numpy().astype(np.float32)
    bias = layer.bias.detach().cpu().numpy().astype(np.float32)
    if weight.shape[:2] != (classes, classes):
        return FEATURES
    diagonal = np.arange(classes)
    others = weight.copy()
    others[diagonal, diagonal] = 0
    if not others.any():
        weight = np.ascontiguousarray(weight[diagonal, diagonal])
    elif classes > MOST_DENSE:
        return f"whose last layer mixes {classes} classes, more than {MOST_DENSE}"
    return LastLayerWeights(weight=weight, bias=bias, border="zero")


def of_resize(
    model: onnx.ModelProto, *, classes: int, multiple: int, least: Sequence[int], fixed: bool
) -> LastLayerWeights | str:
    """Read a bilinear resize of class scores to the size of the image.

    Args:
        model: A graph with one input (N, 3, H, W).
        classes: K.
        multiple: What H and W divide by.
        least: The smallest legal (N, H, W).
        fixed: Whether that is the only legal one.

    Returns:
        The weights that do the same; why there are none otherwise.
    """
    last = model.graph.node[-1]
    if last.op_type != "Resize" or last.output[0] != model.graph.output[0].name:
        return NO_SCORES
    settings = {a.name: helper.get_attribute_value(a) for a in last.attribute}
    mode = settings.get("mode", b"nearest").decode()
    rule = settings.get("coordinate_transformation_mode", b"half_pixel").decode()
    if mode != "linear" or rule not in _HALF_PIXEL or settings.get("antialias", 0):
        return f"whose last step is a Resize of mode {mode} and {rule}"
    stride = _stride_of(model, last.input[0], multiple=multiple, least=least, fixed=fixed)
    if stride is None:
        return "whose scores are not a whole part as large as the image"
    if stride % 2 or not STRIDES[0] <= stride <= STRIDES[1]:
        return f"whose scores are enlarged by {stride}"
    kernel = bilinear_kernel(1, 2 * stride)[0].numpy()
    return LastLayerWeights(
        weight=np.ascontiguousarray(kernel.repeat(classes, 0)),
        bias=np.zeros(classes, np.float32),
        border="edge",
    )


def _stride_of(
    model: onnx.ModelProto, coarse: str, *, multiple: int, least: Sequence[int], fixed: bool
) -> int | None:
    """Run a graph and return by how much a tensor is smaller than the image, at every size."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.append(helper.make_empty_tensor_value_info(coarse))
    session: Any = create_session(
        probe.SerializeToString(), name="onnxruntime", threads=1, where="the network"
    )
    batch, *sides = least

    def ratios(height: int, width: int) -> set[float]:
        image_nchw = np.zeros((batch, 3, height, width), np.float32)
        result = session.run([coarse], {model.graph.input[0].name: image_nchw})[0]
        parts = zip((height, width), result.shape[2:], strict=True)
        return {side / part if part else math.inf for side, part in parts}

    if fixed:
        found = ratios(sides[0], sides[1])
    else:
        # First estimate the stride at any sides. Then measure it at sides that divide by it.
        height, width = (-(-max(side, 8 * STRIDES[1]) // multiple) * multiple for side in sides)
        about = min(ratios(height, width))
        if math.isinf(about):
            return None
        step = math.lcm(multiple, max(1, round(about)))
        low = [-(-side // step) * step for side in sides]
        found = ratios(low[0], low[1] + step) | ratios(low[0] + step, low[1])
    stride = found.pop()
    return int(stride) if not found and stride.is_integer() else None


def prune(graph: onnx.GraphProto) -> None:
    """Drop the nodes and weights that the outputs do not need; bodies of nodes are not looked at.

    Args:
        graph: The graph, changed in place.
    """
    needed = {info.name for info in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    nodes = list(reversed(kept))
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
