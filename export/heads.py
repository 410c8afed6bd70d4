"""What each head puts around the traced core of a network: the front and the tail.

A core turns centred pictures into what the last shuffle takes (see ``graphs.CoreGraph``). The
pieces here hold no arithmetic on shapes: 0 and -1 in a Reshape say all that is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from fcnkit.export.pieces import assemble, parse_piece
from fcnkit.runtime.spec import InputSpec

__all__ = ["NORMALISE", "Core", "labels_model", "logits_model", "tiles_model"]

NORMALISE: Final = "normalise"
"""The nodes of the normalisation are named as if it were a module of the network."""

LABEL_GROUPS: Final = 32
"""The last convolution of head ``labels`` is cut into so many. Its result holds every logit of
every pixel and is read once, by the argmax: in pieces, both stay in the cache. Measured with
FCN-32s at 320x480 on two cores: 4 times (ONNX Runtime) and 2 times (OpenVINO) as fast as whole."""

_FRONT = """
front ({dtype}[n, H, W, 3] {source}) => (float[n, 3, H, W] image)
<float[3, 1, 1] mean = {{ {mean} }}> {{
  pixels = Cast <to = 1> ({source})
  planes = Transpose <perm = [0, 3, 1, 2]> (pixels)
  image = Sub (planes, mean)
}}
"""
# The cast comes before the transpose because TensorRT transposes no uint8.

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
  {crop}
  channel = Constant <value_ints = [1]> ()
  picture = Squeeze (cropped, channel)
  labels = Cast <to = 2> (picture)
}}
"""
# Through float because TensorRT moves no integers in a depth-to-space, and casts to uint8 from
# float only.

_ARGMAX = """
tail (float[n, {classes}, H, W] fine) => (uint8[n, H, W] labels) {{
  best = ArgMax <axis = 1, keepdims = 0> (fine)
  whole = Cast <to = 1> (best)
  labels = Cast <to = 2> (whole)
}}
"""


@dataclass(frozen=True)
class Core:
    """A traced network without its last shuffle."""

    model: onnx.ModelProto
    """Input ``image`` float32 (n, 3, 32*h, 32*w), output ``fine``, computed by the last node."""
    stride: int
    """By which the last shuffle enlarges; 1 where ``fine`` is the logits already."""
    classes: int
    scores: tuple[str, ...]
    """The modules that turn features into class scores."""


def logits_model(core: Core) -> onnx.ModelProto:
    """Complete a core to normalised pictures -> float32 logits."""
    graph = _copy(core)
    if core.stride == 1:
        _rename_output(graph, "fine", "logits")
    model = assemble("logits", [graph, *_logits_tail(core)], core.model)
    return _declared(model, (_N, 3, _H, _W), (_N, core.classes, _H, _W))


def tiles_model(core: Core, given: InputSpec) -> onnx.ModelProto:
    """Complete a core to the middle of head ``scene``: float32 tiles, 0..255 -> logits."""
    front = _front(core, given, source="tiles", dtype="float")
    graph = _copy(core)
    _scale_first(graph, given)
    if core.stride == 1:
        _rename_output(graph, "fine", "logits")
    model = assemble("tiles", [front, graph, *_logits_tail(core)], core.model)
    return _declared(model, (_N, _H, _W, 3), (_N, core.classes, _H, _W))


def labels_model(core: Core, given: InputSpec) -> onnx.ModelProto:
    """Complete a core to uint8 pictures -> uint8 labels, the argmax before the shuffle."""
    front = _front(core, given, source="image", dtype="uint8")
    graph = _copy(core)
    _scale_first(graph, given)
    if core.stride == 1:
        tail = _ARGMAX.format(classes=core.classes)
    else:
        _split_argmax(graph, core)
        tail = _TO_LABELS.format(crop=_crop(core.stride, source="whole", result="cropped"))
    parts = [front, graph, parse_piece(tail, "labels/", core.model)]
    return _declared(assemble("labels", parts, core.model), (_N, _H, _W, 3), (_N, _H, _W))


_N, _H, _W = "n", "32*h", "32*w"


def _declared(
    model: onnx.ModelProto, source: Sequence[str | int], result: Sequence[str | int]
) -> onnx.ModelProto:
    """Declare the dims of the one input and the one output."""
    for tensor, dims in ((model.graph.input[0], source), (model.graph.output[0], result)):
        kind = tensor.type.tensor_type.elem_type
        tensor.CopyFrom(onnx.helper.make_tensor_value_info(tensor.name, kind, dims))
    return model


def _copy(core: Core) -> onnx.GraphProto:
    graph = onnx.GraphProto()
    graph.CopyFrom(core.model.graph)
    return graph


def _rename_output(graph: onnx.GraphProto, old: str, new: str) -> None:
    graph.output[0].name = new
    graph.node[-1].output[:] = [new if name == old else name for name in graph.node[-1].output]


def _logits_tail(core: Core) -> list[onnx.GraphProto]:
    if core.stride == 1:
        return []
    crop = _crop(core.stride, source="fine", result="logits")
    text = _TO_LOGITS.format(classes=core.classes, crop=crop)
    return [parse_piece(text, "logits/", core.model)]


def _crop(stride: int, *, source: str, result: str) -> str:
    return _CROP.format(stride=stride, margin=stride // 2, source=source, result=result)


def _front(core: Core, given: InputSpec, *, source: str, dtype: str) -> onnx.GraphProto:
    """Return the piece that centres pictures: the mean is taken off, in units of 0..255.

    The division is in the first convolution's weights, see _scale_first. The subtraction cannot
    be there exactly: the convolution pads its input with zeros, which must stand for the mean.
    """
    mean = ", ".join(repr(float(255 * value)) for value in given.mean)
    text = _FRONT.format(dtype=dtype, source=source, mean=mean)
    graph = parse_piece(text, f"{NORMALISE}/", core.model)
    # The core has an input of that name, and so may the picture.
    graph.node[-1].output[0] = graph.output[0].name = _CENTRED
    return graph


_CENTRED = f"{NORMALISE}/centred"


def _scale_first(graph: onnx.GraphProto, given: InputSpec) -> None:
    """Divide the weights of the convolution that reads the picture by 255 and by the deviation."""
    (first,) = (node for node in graph.node if graph.input[0].name in node.input)
    weight = _initializer(graph, first.input[1])
    values = numpy_helper.to_array(weight).astype(np.float64)
    scaled = values / (255 * np.array(given.std)).reshape(1, 3, 1, 1)
    weight.CopyFrom(numpy_helper.from_array(scaled.astype(np.float32), weight.name))
    first.input[0] = graph.input[0].name = _CENTRED


def _split_argmax(graph: onnx.GraphProto, core: Core) -> None:
    """Replace the last convolution by LABEL_GROUPS ones, each followed by its own argmax."""
    last = graph.node.pop()
    kernel = _initializer(graph, last.input[1])
    bias = _initializer(graph, last.input[2])
    area, classes = core.stride**2, core.classes
    groups = min(LABEL_GROUPS, area)
    size = area // groups
    kernels = _by_group(numpy_helper.to_array(kernel), classes, groups)
    biases = _by_group(numpy_helper.to_array(bias), classes, groups)
    for unused in (kernel, bias):
        graph.initializer.remove(unused)
    # 0 keeps a dim and -1 stands for subpixels times rows.
    for name, dims in (("planes", [0, classes, -1, 0]), ("subpixels", [0, size, -1, 0])):
        graph.initializer.append(numpy_helper.from_array(np.array(dims), f"labels/{name}"))
    for group in range(groups):
        _add_group(graph, last, f"/group{group}", kernels[group], biases[group])
    parts = [f"labels/best/group{group}" for group in range(groups)]
    graph.node.append(onnx.helper.make_node("Concat", parts, ["best"], "labels/Concat", axis=1))
    best = onnx.helper.make_tensor_value_info("best", onnx.TensorProto.INT64, [_N, area, "h", "w"])
    graph.output[0].CopyFrom(best)


def _by_group(values: NDArray[np.float32], classes: int, groups: int) -> list[NDArray[np.float32]]:
    """Split (classes * subpixels, ...) by subpixels; each part keeps all classes."""
    split = values.reshape(classes, groups, -1, *values.shape[1:])
    return [
        np.ascontiguousarray(split[:, group].reshape(-1, *values.shape[1:]))
        for group in range(groups)
    ]


def _add_group(
    graph: onnx.GraphProto,
    like: onnx.NodeProto,
    suffix: str,
    kernel: NDArray[np.float32],
    bias: NDArray[np.float32],
) -> None:
    weights = {f"{like.input[1]}{suffix}": kernel, f"{like.input[2]}{suffix}": bias}
    graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in weights.items())
    conv = onnx.NodeProto()
    conv.CopyFrom(like)
    conv.name = f"{like.name}{suffix}"
    conv.input[1:], conv.output[:] = list(weights), [f"{like.output[0]}{suffix}"]
    logits, index, best = (f"labels/{name}{suffix}" for name in ("logits", "index", "best"))
    node = onnx.helper.make_node
    prefix = f"labels{suffix}"
    graph.node.extend(
        [
            conv,
            node("Reshape", [conv.output[0], "labels/planes"], [logits], f"{prefix}/Reshape"),
            node("ArgMax", [logits], [index], f"{prefix}/ArgMax", axis=1, keepdims=1),
            node("Reshape", [index, "labels/subpixels"], [best], f"{prefix}/Reshape_2"),
        ]
    )


def _initializer(graph: onnx.GraphProto, name: str) -> onnx.TensorProto:
    found: onnx.TensorProto = next(t for t in graph.initializer if t.name == name)
    return found
