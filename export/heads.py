"""What each head puts around the traced core of a network: the front and the tail.

A core turns centered pictures into what the last shuffle takes (see ``graphs.CoreGraph``). The
pieces here hold no arithmetic on shapes: 0 and -1 in a Reshape say all that is needed. Only the
confidence, which is computed without rows and columns, asks for the sides at its end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from fcnkit.export.confidence import CONFIDENCE, TOTALS, add_shapes, add_totals, confidence_pieces
from fcnkit.export.last_layer import NO_SCORES, prune
from fcnkit.export.onnx_text import assemble, parse_piece
from fcnkit.runtime.artifacts.last_layer import BIAS_NAME, WEIGHT_NAME, LastLayerWeights
from fcnkit.runtime.artifacts.spec import InputSpec

__all__ = [
    "NORMALIZE",
    "Core",
    "add_last_layer",
    "labels_model",
    "logits_model",
    "scores_model",
    "tiles_model",
]

NORMALIZE: Final = "normalize"
"""The nodes of the normalization are named as if it were a module of the network."""

LABEL_GROUPS: Final = 8
"""Parts into which the last convolution of head ``labels`` is cut, a multiple of 4. Its result
holds every logit of every pixel and is read once, by the argmax: in pieces, both stay in the cache.
Measured with FCN-32s at 320x480 on two cores: 4 times (ONNX Runtime) and 2 times (OpenVINO) as fast
as whole when cut into 32. With 8 the last step takes 14 % less than with 32 in ONNX Runtime, which
pays for every node, and 13 % more in OpenVINO."""

_FRONT = """
front ({dtype}[n, H, W, 3] {source}) => (float[n, 3, H, W] image)
<float[3, 1, 1] mean = {{ {mean} }}> {{
  pixels = Cast <to = 1> ({source})
  planes = Transpose <perm = [0, 3, 1, 2]> (pixels)
  image = Sub (planes, mean)
}}
"""
# The cast comes before the transpose because TensorRT does not transpose uint8.

_CROP = """
  starts = Constant <value_ints = [{margin}, {margin}]> ()
  ends = Constant <value_ints = [-{margin}, -{margin}]> ()
  axes = Constant <value_ints = [2, 3]> ()
  wide = DepthToSpace <blocksize = {stride}, mode = "CRD"> ({source})
  {result} = Slice (wide, starts, ends, axes)
"""

_TO_LOGITS = """
tail (float[n, C, h, w] fine) => (float[n, {classes}, H, W] logits) {{ {crop} }}
"""

_TO_LABELS = """
tail (int64[n, S, h, w] best) => (uint8[n, H, W] labels) {{
  whole = Cast <to = 1> (best)
  wide = DepthToSpace <blocksize = {stride}, mode = "CRD"> (whole)
  channel = Constant <value_ints = [1]> ()
  picture = Squeeze (wide, channel)
  labels = Cast <to = 2> (picture)
}}
"""
# Through float because TensorRT does not move integers in a depth-to-space, and casts to uint8 from
# float only.

_ARGMAX = """
tail (float[n, {classes}, H, W] fine) => (uint8[n, H, W] labels) {{
  best = ArgMax <axis = 1, keepdims = 0> (fine)
  whole = Cast <to = 1> (best)
  labels = Cast <to = 2> (whole)
}}
"""


_GIVEN = """
tail (int64[n, H, W] fine) => (uint8[n, H, W] labels) {
  whole = Cast <to = 1> (fine)
  labels = Cast <to = 2> (whole)
}
"""


@dataclass(frozen=True)
class Core:
    """A traced network without its last shuffle."""

    model: onnx.ModelProto
    """Input ``image`` float32 (n, 3, m*h, m*w) with the multiple m, output ``fine``."""
    stride: int
    """By which the last shuffle enlarges; 1 where ``fine`` is the logits already."""
    classes: int
    scores: tuple[str, ...]
    """The modules that turn features into class scores."""
    multiple: int = 32
    """Both sides of an image must divide by it."""
    gives_labels: bool = False
    """Whether ``fine`` is labels already, int64 (n, H, W): an adopted graph with an argmax."""
    last_layer: LastLayerWeights | None = None
    """What the last node does, where it only enlarges class scores: for head ``scores``."""
    no_scores: str = NO_SCORES
    """Why it has no head ``scores``, in words that follow its name."""


def logits_model(core: Core) -> onnx.ModelProto:
    """Complete a core to normalized pictures -> float32 logits."""
    graph = _copy(core)
    if core.stride == 1:
        _rename_output(graph, "fine", "logits")
    model = assemble("logits", [graph, *_logits_tail(core)], core.model)
    sides = _sides(core.multiple)
    return _declared(model, (_N, 3, *sides), (_N, core.classes, *sides))


def scores_model(core: Core) -> onnx.ModelProto:
    """Complete a core to normalized pictures -> float32 class scores, before the last layer."""
    assert core.last_layer is not None
    graph = _copy(core)
    stride = core.last_layer.stride
    multiple = math.lcm(core.multiple, stride)
    _rename_output(graph, graph.node.pop().input[0], "scores")
    free: tuple[str | int | None, ...] = (_N, core.classes, None, None)
    graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, free)
    )
    prune(graph)
    model = assemble("scores", [graph], core.model)
    sides, coarse = _sides(multiple), _sides(multiple // stride)
    return _declared(model, (_N, 3, *sides), (_N, core.classes, *coarse))


def add_last_layer(model: onnx.ModelProto, layer: LastLayerWeights) -> None:
    """Store the weights of the last layer in a model whose nodes do not read them."""
    for name, values in ((WEIGHT_NAME, layer.weight), (BIAS_NAME, layer.bias)):
        model.graph.initializer.append(numpy_helper.from_array(values, name))


def tiles_model(core: Core, given: InputSpec) -> onnx.ModelProto:
    """Complete a core to the middle of head ``scene``: float32 tiles, 0..255 -> logits."""
    front = _front(core, given, source="tiles", dtype="float")
    graph = _copy(core)
    _scale_first(graph, given)
    if core.stride == 1:
        _rename_output(graph, "fine", "logits")
    model = assemble("tiles", [front, graph, *_logits_tail(core)], core.model)
    sides = _sides(core.multiple)
    return _declared(model, (_N, *sides, 3), (_N, core.classes, *sides))


def labels_model(core: Core, given: InputSpec, *, confidence: bool = False) -> onnx.ModelProto:
    """Complete a core to uint8 pictures -> uint8 labels, the argmax before the shuffle.

    Args:
        core: The network; one that gives labels already has no confidence.
        given: The model's input.
        confidence: Whether a second output says how probable each label is.
    """
    front = _front(core, given, source="image", dtype="uint8")
    graph = _copy(core)
    _scale_first(graph, given)
    if core.gives_labels:
        tail = _GIVEN
    elif core.stride == 1:
        tail = _ARGMAX.format(classes=core.classes)
    else:
        _split_argmax(graph, core, confidence=confidence)
        tail = _TO_LABELS.format(stride=core.stride)
    parts = [front, graph, parse_piece(tail, "labels/", core.model)]
    if confidence:
        parts += confidence_pieces(core.model, stride=core.stride)
    sides = _sides(core.multiple)
    model = assemble("labels", parts, core.model, outputs=2 if confidence else 1)
    return _declared(model, (_N, *sides, 3), (_N, *sides))


_N: Final = "n"


def _sides(multiple: int) -> tuple[str, str]:
    """Return the names under which the graph declares its free sides."""
    factor = "" if multiple == 1 else f"{multiple}*"
    return f"{factor}h", f"{factor}w"


def _declared(
    model: onnx.ModelProto, source: Sequence[str | int], result: Sequence[str | int]
) -> onnx.ModelProto:
    """Declare the dims of the one input, and of the outputs, which are alike."""
    outputs = ((output, result) for output in model.graph.output)
    for tensor, dims in ((model.graph.input[0], source), *outputs):
        kind = tensor.type.tensor_type.elem_type
        tensor.CopyFrom(onnx.helper.make_tensor_value_info(tensor.name, kind, dims))
    return model


def _copy(core: Core) -> onnx.GraphProto:
    graph = onnx.GraphProto()
    graph.CopyFrom(core.model.graph)
    return graph


def _rename_output(graph: onnx.GraphProto, old: str, new: str) -> None:
    graph.output[0].name = new
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def _logits_tail(core: Core) -> list[onnx.GraphProto]:
    if core.stride == 1:
        return []
    crop = _crop(core.stride, source="fine", result="logits")
    text = _TO_LOGITS.format(classes=core.classes, crop=crop)
    return [parse_piece(text, "logits/", core.model)]


def _crop(stride: int, *, source: str, result: str) -> str:
    return _CROP.format(stride=stride, margin=stride // 2, source=source, result=result)


def _front(core: Core, given: InputSpec, *, source: str, dtype: str) -> onnx.GraphProto:
    """Return the piece that centers pictures: the mean is taken off, in units of 0..255.

    The division is in the first convolution's weights, see _scale_first. The subtraction cannot
    be there exactly: the convolution pads its input with zeros, which must stand for the mean.
    """
    mean = ", ".join(repr(float(255 * value)) for value in given.mean)
    text = _FRONT.format(dtype=dtype, source=source, mean=mean)
    graph = parse_piece(text, f"{NORMALIZE}/", core.model)
    # The core has an input of that name, and so may the picture.
    graph.node[-1].output[0] = graph.output[0].name = _CENTERED
    return graph


_CENTERED = f"{NORMALIZE}/centered"
_SCALED = f"{NORMALIZE}/scaled"


def _scale_first(graph: onnx.GraphProto, given: InputSpec) -> None:
    """Divide the picture by 255 and by the deviation.

    Where one convolution alone reads it, its weights are divided, which costs nothing. Any other
    graph gets a node that does it.
    """
    source, deviation = graph.input[0].name, 255 * np.array(given.std)
    readers = [node for node in graph.node if source in node.input]
    weight = _own_weight(graph, readers[0]) if len(readers) == 1 else None
    if weight is None:
        factor = numpy_helper.from_array(
            (1 / deviation).reshape(3, 1, 1).astype(np.float32), f"{NORMALIZE}/factor"
        )
        graph.initializer.append(factor)
        for node in readers:
            node.input[:] = [_SCALED if name == source else name for name in node.input]
        scale = onnx.helper.make_node(
            "Mul", [_CENTERED, factor.name], [_SCALED], f"{NORMALIZE}/Mul"
        )
        graph.node.insert(0, scale)
        graph.input[0].name = _CENTERED
        return
    values = numpy_helper.to_array(weight).astype(np.float64)
    scaled = values / deviation.reshape(1, 3, 1, 1)
    weight.CopyFrom(numpy_helper.from_array(scaled.astype(np.float32), weight.name))
    readers[0].input[0] = graph.input[0].name = _CENTERED


def _own_weight(graph: onnx.GraphProto, node: onnx.NodeProto) -> onnx.TensorProto | None:
    """Return the stored weight of a convolution over 3 channels, where no other node reads it."""
    if node.op_type != "Conv" or len(node.input) < 2:
        return None
    name = node.input[1]
    found: list[onnx.TensorProto] = [t for t in graph.initializer if t.name == name]
    uses = sum(reader.input[:].count(name) for reader in graph.node)
    if len(found) != 1 or uses != 1 or len(found[0].dims) != 4 or found[0].dims[1] != 3:
        return None
    return found[0]


def _split_argmax(graph: onnx.GraphProto, core: Core, *, confidence: bool) -> None:
    """Replace the last convolution by LABEL_GROUPS ones, each followed by its own argmax.

    With confidence, each is also followed by its own sum of exponentials.

    The whole convolution has kernel 2 and padding 1, and its (h + 1) x (w + 1) cells are shifted by
    half a cell against those of the picture, which the logits' tail crops. Here each quarter of the
    subpixels has its own padding, on two sides, so that its h x w cells are the picture's: with a
    picture of 320x480 and stride 32 that is 15 % less to compute.
    """
    last = graph.node.pop()
    kernel, bias = (_initializer(graph, name) for name in last.input[1:])
    for unused in (kernel, bias):
        graph.initializer.remove(unused)
    stride, half = core.stride, core.stride // 2
    rows = max(1, 4 * half // LABEL_GROUPS)
    kernel_krcoij, bias_krc = (
        values.reshape(core.classes, stride, stride, *values.shape[1:])
        for values in map(numpy_helper.to_array, (kernel, bias))
    )
    # 0 keeps a dim and -1 stands for what is left.
    shapes = {"labels/planes": (0, core.classes, -1, 0)}
    shapes |= {"labels/side": (0, stride, -1, 0), "labels/cell": (0, stride**2, -1, 0)}
    for name, dims in shapes.items():
        graph.initializer.append(numpy_helper.from_array(np.array(dims), name))
    parts: dict[tuple[str, str], list[str]] = {}
    for side, columns in (("left", slice(half, stride)), ("right", slice(half))):
        for row in range(0, stride, rows):
            below = row >= half
            first = row - half if below else row + half
            own = (slice(None), slice(first, first + rows), columns)
            pads = [int(not below), int(side == "left"), int(below), int(side == "right")]
            suffix = f"/{side}{row}"
            weights = {
                f"{last.input[1]}{suffix}": kernel_krcoij[own].reshape(-1, *kernel.dims[1:]),
                f"{last.input[2]}{suffix}": bias_krc[own].reshape(-1),
            }
            made = _add_group(graph, last, suffix, weights, pads, confidence=confidence)
            for kind, name in made.items():
                parts.setdefault((kind, side), []).append(name)
    del graph.output[:]
    if confidence:
        add_shapes(graph, last.input[0], stride=stride)
    for kind in made:
        _join_groups(graph, kind, parts, [_N, stride**2, "h", "w"])


def _join_groups(
    graph: onnx.GraphProto,
    kind: str,
    parts: dict[tuple[str, str], list[str]],
    dims: list[str | int],
) -> None:
    """Join the results of all groups to an output of the graph, named by its kind."""
    module, sides = CONFIDENCE if kind == TOTALS else "labels", []
    for side in ("left", "right"):
        name = f"{module}/{side}"
        _add(graph, "Concat", parts[kind, side], f"{name}/whole", axis=2)
        _add(graph, "Reshape", [f"{name}/whole", f"{module}/side"], name)
        sides.append(name)
    # (stride, half * h * w) twice, side by side: the columns of each row of subpixels.
    _add(graph, "Concat", sides, f"{module}/sides", axis=2)
    _add(graph, "Reshape", [f"{module}/sides", f"{module}/cell"], kind)
    if kind == TOTALS:
        graph.node[-1].name = f"{CONFIDENCE}/Reshape"
    dtype = onnx.TensorProto.FLOAT if kind == TOTALS else onnx.TensorProto.INT64
    graph.output.append(onnx.helper.make_tensor_value_info(kind, dtype, dims))


def _add_group(
    graph: onnx.GraphProto,
    like: onnx.NodeProto,
    suffix: str,
    weights: dict[str, NDArray[np.float32]],
    pads: list[int],
    *,
    confidence: bool,
) -> dict[str, str]:
    """Add a convolution of a part of the subpixels, its argmax and its sum of exponentials.

    Returns:
        The names of the labels, ``best``, (n, 1, subpixels * h, w), and with confidence of the
        sums, ``totals``, (n, 1, subpixels * h * w).
    """
    graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in weights.items())
    conv = onnx.NodeProto()
    conv.CopyFrom(like)
    conv.name = f"{like.name}{suffix}"
    conv.input[1:], conv.output[:] = list(weights), [f"{like.output[0]}{suffix}"]
    next(item for item in conv.attribute if item.name == "pads").ints[:] = pads
    graph.node.append(conv)
    logits, best = (f"labels/{name}{suffix}" for name in ("logits", "best"))
    _add(graph, "Reshape", [conv.output[0], "labels/planes"], logits)
    _add(graph, "ArgMax", [logits], best, axis=1, keepdims=1)
    if not confidence:
        return {"best": best}
    totals = f"{CONFIDENCE}/totals{suffix}"
    add_totals(graph, logits, totals)
    return {"best": best, TOTALS: totals}


def _add(graph: onnx.GraphProto, kind: str, given: list[str], result: str, **options: Any) -> None:
    graph.node.append(onnx.helper.make_node(kind, given, [result], f"{result}/{kind}", **options))


def _initializer(graph: onnx.GraphProto, name: str) -> onnx.TensorProto:
    found: onnx.TensorProto = next(t for t in graph.initializer if t.name == name)
    return found
