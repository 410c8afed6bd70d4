"""The second output of heads ``labels`` and ``scene``: how probable each label is.

The softmax of the largest score is 1 divided by the sum of the exponentials of all scores, each
less the largest. All of it stays in float32.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from onnx import numpy_helper

from fcnkit.export.onnx_text import parse_piece

__all__ = [
    "CONFIDENCE",
    "TOTALS",
    "add_shapes",
    "add_totals",
    "confidence_pieces",
    "scene_pieces",
]

CONFIDENCE: Final = "confidence"
"""The nodes are named as if they were a module of the network."""

TOTALS: Final = "totals"
"""The sums of the exponentials."""

_SUM: Final = """
sums (float[n, K, H, W] fine) => (float[n, one, H, W] totals) {
  axis = Constant <value_ints = [1]> ()
  peak = ReduceMax <keepdims = 1> (fine, axis)
  below = Sub (fine, peak)
  powers = Exp (below)
  totals = ReduceSum <keepdims = 1> (powers, axis)
}
"""

_SUM_OF_MEAN: Final = """
sums (float[one, K, H, W] scene, float[tiles, K, tile_h, tile_w] logits, uint8[one, H, W, 3] image)
  => (float[one, one, H, W] totals) {
  multiple = Constant <value_ints = [MULTIPLE]> ()
  single = Constant <value = float[1] {1.0}> ()
  one_1 = Constant <value_ints = [1]> ()
  ones_2 = Constant <value_ints = [1, 1]> ()
  ones_3 = Constant <value_ints = [1, 1, 1]> ()
  zeros_3 = Constant <value_ints = [0, 0, 0]> ()
  zeros_4 = Constant <value_ints = [0, 0, 0, 0]> ()
  zeros_5 = Constant <value_ints = [0, 0, 0, 0, 0]> ()
  zeros_2 = Constant <value_ints = [0, 0]> ()
  zeros_6 = Constant <value_ints = [0, 0, 0, 0, 0, 0]> ()
  zeros_7 = Constant <value_ints = [0, 0, 0, 0, 0, 0, 0]> ()
  zero = Constant <value_ints = [0]> ()
  size_h = Shape <start = 1, end = 2> (image)
  size_w = Shape <start = 2, end = 3> (image)
  rest_h = Mod (size_h, multiple)
  rest_w = Mod (size_w, multiple)
  tile_h = Sub (size_h, rest_h)
  tile_w = Sub (size_w, rest_w)
  shape_h = Concat <axis = 0> (ones_2, tile_h, one_1)
  shape_w = Concat <axis = 0> (ones_3, tile_w)
  ones_h = Expand (single, shape_h)
  ones_w = Expand (single, shape_w)
  pad_bottom = Concat <axis = 0> (zeros_6, rest_h, zero)
  pad_top = Concat <axis = 0> (zeros_2, rest_h, zeros_5)
  pad_right = Concat <axis = 0> (zeros_7, rest_w)
  pad_left = Concat <axis = 0> (zeros_3, rest_w, zeros_4)
  top = Pad (ones_h, pad_bottom)
  bottom = Pad (ones_h, pad_top)
  left = Pad (ones_w, pad_right)
  right = Pad (ones_w, pad_left)
  over = Add (top, bottom)
  across = Add (left, right)
  tiles_there = Mul (over, across)
  axis = Constant <value_ints = [1]> ()
  peak = ReduceMax <keepdims = 1> (scene, axis)
  below = Sub (scene, peak)
  mean = Div (below, tiles_there)
  powers = Exp (mean)
  totals = ReduceSum <keepdims = 1> (powers, axis)
}
"""
# How many tiles are in the sum of a pixel is the product of two counts. As in the joining, one row
# or column of tiles counts twice.

_TO_BYTE: Final = """
byte (float[n, S, h, w] totals) => (uint8[n, H, W] confidence) {{
  wide = {widen} (totals)
  channel = Constant <value_ints = [1]> ()
  flat = Squeeze (wide, channel)
  most = Constant <value_float = 255.0> ()
  half = Constant <value_float = 0.5> ()
  scaled = Div (most, flat)
  raised = Add (scaled, half)
  rounded = Floor (raised)
  confidence = Cast <to = 2> (rounded)
}}
"""


def add_totals(graph: onnx.GraphProto, scores: str, result: str) -> None:
    """Add the sums of exponentials over axis 1 to a graph.

    They are computed in one long row per class. OpenVINO takes 16 times as long for an exponential
    in rows of 15 columns, the width of 480 pixels at stride 32.

    Args:
        graph: Holds the scores.
        scores: A tensor of scores, float32 (n, K, ...).
        result: Name of the sums, (n, 1, P) with all other axes in one.
    """
    axis, flat = (f"{CONFIDENCE}/{name}" for name in ("axis", "flat"))
    _add_once(graph, axis, [1])
    _add_once(graph, flat, [0, 0, -1])
    long, peak, below, powers = (f"{result}/{name}" for name in ("long", "peak", "below", "powers"))
    for kind, given, made in (
        ("Reshape", [scores, flat], long),
        ("ReduceMax", [long, axis], peak),
        ("Sub", [long, peak], below),
        ("Exp", [below], powers),
        ("ReduceSum", [powers, axis], result),
    ):
        graph.node.append(onnx.helper.make_node(kind, given, [made], f"{made}/{kind}"))


def add_shapes(graph: onnx.GraphProto, coarse: str, *, stride: int) -> None:
    """Add the shapes that long rows of sums get: ``confidence/side`` and ``confidence/cell``.

    Args:
        graph: Holds the tensor ``coarse``.
        coarse: A tensor (n, K, h, w).
        stride: Of the last layer. The rows hold stride**2 sums for each of h * w cells.
    """
    side, front, size, cell = (f"{CONFIDENCE}/{name}" for name in ("side", "front", "size", "cell"))
    _add_once(graph, side, [0, stride, -1])
    _add_once(graph, front, [0, stride**2])
    make = onnx.helper.make_node
    graph.node.append(make("Shape", [coarse], [size], f"{size}/Shape", start=2, end=4))
    graph.node.append(make("Concat", [front, size], [cell], f"{cell}/Concat", axis=0))


def _add_once(graph: onnx.GraphProto, name: str, values: list[int]) -> None:
    if not any(tensor.name == name for tensor in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(np.array(values), name))


def confidence_pieces(like: onnx.ModelProto, *, stride: int) -> list[onnx.GraphProto]:
    """Return what makes the output ``confidence``.

    Args:
        like: The model that the pieces go with.
        stride: By which the sums of exponentials, which the graph before computes, are enlarged.
            At 1 the graph before computes the scores, ``fine``.
    """
    if stride == 1:
        sums = parse_piece(_SUM, f"{CONFIDENCE}/", like)
        return [sums, _to_byte(like, "Identity")]
    return [_to_byte(like, f'DepthToSpace <blocksize = {stride}, mode = "CRD">')]


def scene_pieces(like: onnx.ModelProto, *, multiple: int) -> list[onnx.GraphProto]:
    """Return what makes the output ``confidence`` of the sums of tiles, ``scene``.

    Args:
        like: The model that the pieces go with.
        multiple: What the sides of a tile divide by.
    """
    sums = _SUM_OF_MEAN.replace("MULTIPLE", str(multiple))
    return [parse_piece(sums, f"{CONFIDENCE}/", like), _to_byte(like, "Identity")]


def _to_byte(like: onnx.ModelProto, widen: str) -> onnx.GraphProto:
    return parse_piece(_TO_BYTE.format(widen=widen), f"{CONFIDENCE}/byte/", like)
