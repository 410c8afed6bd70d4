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
from fcnkit.export.scene_text import both_axes, filled

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

_COUNT_AXIS: Final = """  tile_{a} = Sub (size_{a}, rest_{a})
  shape_{a} = Concat <axis = 0> ({shape})
  ones_{a} = Expand (single, shape_{a})
  early_{a} = Pad (ones_{a}, behind_{a})
  late_{a} = Pad (ones_{a}, before_{a})
  tiles_{a} = Add (early_{a}, late_{a})
"""

_COUNT_BOTH: Final = both_axes(
    _COUNT_AXIS,
    {"a": "h", "shape": "one, one, tile_h, one"},
    {"a": "w", "shape": "one, one, one, tile_w"},
)

_SUM_OF_MEAN: Final = f"""
sums (float[one, K, H, W] scene, float[tiles, K, tile_h, tile_w] logits, uint8[one, H, W, 3] image)
  => (float[one, one, H, W] totals) {{
SIZES
PADS
  single = Constant <value = float[1] {{1.0}}> ()
{_COUNT_BOTH}  tiles_there = Mul (tiles_h, tiles_w)
  peak = ReduceMax <keepdims = 1> (scene, one)
  below = Sub (scene, peak)
  mean = Div (below, tiles_there)
  powers = Exp (mean)
  totals = ReduceSum <keepdims = 1> (powers, one)
}}
"""
# The number of tiles over a pixel is the product of two counts. As in the join, a single row or
# column of tiles counts twice.

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
    sums = parse_piece(filled(_SUM_OF_MEAN, multiple), f"{CONFIDENCE}/", like)
    return [sums, _to_byte(like, "Identity")]


def _to_byte(like: onnx.ModelProto, widen: str) -> onnx.GraphProto:
    return parse_piece(_TO_BYTE.format(widen=widen), f"{CONFIDENCE}/byte/", like)
