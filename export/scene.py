"""The ``scene`` head: a graph that covers a picture of any size by itself.

The exported middle turns tiles into logits. Around it stand two small pieces of ONNX, in
ONNX's own text form: one cuts the picture into at most four overlapping tiles whose sides are the
largest multiples of 32 that fit, or of an adopted network's own multiple. The other adds the tiles'
logits where they lie and takes the argmax. A side that is a multiple needs one tile, any other two.
The number of tiles over each pixel is the same for all classes, so the argmax of the sum is that of
the mean.
"""

from __future__ import annotations

import onnx

from fcnkit.export.confidence import scene_pieces
from fcnkit.export.onnx_text import assemble, parse_piece
from fcnkit.export.scene_text import both_axes, filled

__all__ = ["wrap_scene"]

_CUT_AXIS = """  whole_{a} = Sub (size_{a}, rest_{a})
  first_{a} = Slice ({source}, zero, whole_{a}, {axis})
  last_{a} = Slice ({source}, rest_{a}, size_{a}, {axis})
  both_{a} = Concat <axis = 0> (first_{a}, last_{a})
  {made} = Slice (both_{a}, zero, {count}, zero)
"""
# The last input of a Slice is the axis.

_CUT_BOTH = both_axes(
    _CUT_AXIS,
    {"a": "h", "axis": "one", "source": "pixels", "count": "rows", "made": "bands"},
    {"a": "w", "axis": "two", "source": "bands", "count": "count", "made": "tiles"},
)

_CUT = f"""
cut (uint8[1, H, W, 3] image) => (float[tiles, tile_h, tile_w, 3] tiles) {{
  pixels = Cast <to = 1> (image)
SIZES
  two = Constant <value_ints = [2]> ()
  more_h = Min (rest_h, one)
  rows = Add (more_h, one)
  more_w = Min (rest_w, one)
  columns = Add (more_w, one)
  count = Mul (rows, columns)
{_CUT_BOTH}}}
"""
# Cast first: TensorRT does not slice uint8. Tiles come left column first: [top left, bottom left,
# top right, bottom right], or fewer.

_JOIN_AXIS = """  begin_{a} = Sub ({end}, {count})
  first_{a} = Slice ({source}, zero, {count}, zero)
  last_{a} = Slice ({source}, begin_{a}, {end}, zero)
  early_{a} = Pad (first_{a}, behind_{a})
  late_{a} = Pad (last_{a}, before_{a})
  {made} = Add (early_{a}, late_{a})
"""

_JOIN_BOTH = both_axes(
    _JOIN_AXIS,
    {"a": "w", "source": "logits", "count": "rows", "end": "end", "made": "bands"},
    {"a": "h", "source": "bands", "count": "one", "end": "rows", "made": "scene"},
)

_JOIN = f"""
join (float[tiles, K, tile_h, tile_w] logits, uint8[1, H, W, 3] image)
  => (uint8[1, H, W] labels, float[1, K, H, W] scene) {{
SIZES
PADS
  more_h = Min (rest_h, one)
  rows = Add (more_h, one)
  end = Shape <start = 0, end = 1> (logits)
{_JOIN_BOTH}  best = ArgMax <axis = 1, keepdims = 0> (scene)
  labels_float = Cast <to = 1> (best)
  labels = Cast <to = 2> (labels_float)
}}
"""
# With one column, left and right are the same tile and its sum doubles every logit alike. The last
# casts go through float because TensorRT casts to uint8 from float only.

_MIRROR = """
mirror (float[tiles, h, w, 3] plain) => (float[twice, h, w, 3] tiles) {
  last = Constant <value_ints = [-1]> ()
  beyond = Constant <value_ints = [-9223372036854775807]> ()
  axis = Constant <value_ints = [2]> ()
  mirrored = Slice (plain, last, beyond, axis, last)
  tiles = Concat <axis = 0> (plain, mirrored)
}
"""

_FOLD = """
fold (float[twice, K, h, w] both) => (float[tiles, K, h, w] logits) {
  last = Constant <value_ints = [-1]> ()
  beyond = Constant <value_ints = [-9223372036854775807]> ()
  axis = Constant <value_ints = [3]> ()
  zero = Constant <value_ints = [0]> ()
  two = Constant <value_ints = [2]> ()
  half = Constant <value_float = 0.5> ()
  count = Shape <start = 0, end = 1> (both)
  middle = Div (count, two)
  first = Slice (both, zero, middle, zero)
  second = Slice (both, middle, count, zero)
  back = Slice (second, last, beyond, axis, last)
  total = Add (first, back)
  logits = Mul (total, half)
}
"""


def wrap_scene(
    middle: onnx.ModelProto, *, multiple: int = 32, confidence: bool = False, flip: bool = False
) -> onnx.ModelProto:
    """Put the cutting and the joining around a middle of any precision.

    Args:
        middle: A model with input ``tiles`` float32 (n, 32*h, 32*w, 3), 0..255, and output
            ``logits`` float32 (n, K, 32*h, 32*w).
        multiple: What the sides of a tile divide by, 32 in these shapes.
        confidence: Whether a second output says how probable each label is.
        flip: Whether each tile goes through the middle twice, as it is and mirrored, for the mean
            of both.

    Returns:
        A model with input ``image`` uint8 (1, H, W, 3), H and W at least the multiple, and output
        ``labels`` uint8 (1, H, W), and with confidence an output of that name, alike.
    """
    cut, join = filled(_CUT, multiple), filled(_JOIN, multiple)
    pieces = parse_piece(cut, "cut/", middle), parse_piece(join, "join/", middle)
    between = _mirrored(pieces[0], middle) if flip else [middle.graph]
    parts = [pieces[0], *between, pieces[1]]
    if confidence:
        model = assemble(
            "scene", [*parts, *scene_pieces(middle, multiple=multiple)], middle, outputs=2
        )
    else:
        del pieces[1].output[1]  # the sums
        model = assemble("scene", parts, middle)
    return model


def _mirrored(cut: onnx.GraphProto, middle: onnx.ModelProto) -> list[onnx.GraphProto]:
    """Return the middle between what adds mirrored tiles and what takes the mean of both."""
    inner = onnx.GraphProto()
    inner.CopyFrom(middle.graph)
    _rename(cut, "tiles", "plain")
    _rename(inner, "logits", "both")
    return [
        parse_piece(_MIRROR, "mirror/", middle),
        inner,
        parse_piece(_FOLD, "fold/", middle),
    ]


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Rename an output of a graph."""
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    for tensor in graph.output:
        tensor.name = new if tensor.name == old else tensor.name
