"""Mutants: exported graphs with one fault each, of the kind that exporters and tools make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

__all__ = ["MUTANTS", "Mutant"]

Change = Callable[[onnx.GraphProto], bool]
"""Changes a graph in place; False where it has nothing to change."""

Rule = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Changes the values of a weight."""


@dataclass(frozen=True)
class Mutant:
    """One fault."""

    name: str
    change: Change
    whole: bool = False
    """Whether it changes the finished graph of head ``scene``, and not the middle of it."""


def _convs(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    return [node for node in graph.node if node.op_type == "Conv"]


def _weight(
    place: float, slot: int, rule: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> Change:
    """Change a weight (slot 1) or bias (slot 2) of the convolution at a share of all."""

    def change(graph: onnx.GraphProto) -> bool:
        convs = [node for node in _convs(graph) if len(node.input) > slot]
        if not convs:
            return False
        chosen = convs[min(int(place * len(convs)), len(convs) - 1)]
        # What belongs together, as the groups of the last convolution, is changed together.
        module = chosen.name.partition("/")[0]
        names = {n.input[slot] for n in convs if n.name.partition("/")[0] == module}
        for tensor in graph.initializer:
            if tensor.name in names:
                values = np.ascontiguousarray(rule(numpy_helper.to_array(tensor).copy()))
                tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
        return True

    return change


def _attribute(kind: str, name: str, value: object, place: float = 0.5) -> Change:
    """Set an attribute of the node of a kind at a share of all that have that attribute."""

    def change(graph: onnx.GraphProto) -> bool:
        nodes = [n for n in graph.node if n.op_type == kind]
        nodes = [n for n in nodes if any(a.name == name for a in n.attribute)]
        if not nodes:
            return False
        node = nodes[min(int(place * len(nodes)), len(nodes) - 1)]
        kept = [a for a in node.attribute if a.name != name]
        before = next(a for a in node.attribute if a.name == name)
        new = value(helper.get_attribute_value(before)) if callable(value) else value
        if new == helper.get_attribute_value(before):
            return False
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, new)])
        return True

    return change


def _pads(wanted: list[int], place: float = 0.5) -> Change:
    """Move the padding of a 3x3 convolution to other sides."""

    def change(graph: onnx.GraphProto) -> bool:
        nodes = [
            a
            for n in _convs(graph)
            for a in n.attribute
            if a.name == "pads" and list(a.ints) == [1, 1, 1, 1]
        ]
        if not nodes:
            return False
        nodes[min(int(place * len(nodes)), len(nodes) - 1)].ints[:] = wanted
        return True

    return change


def _replace(kind: str, by: str, place: float = 0.5, **attributes: object) -> Change:
    """Put another operation with the same first input in the place of one."""

    def change(graph: onnx.GraphProto) -> bool:
        nodes = [n for n in graph.node if n.op_type == kind]
        if not nodes:
            return False
        node = nodes[min(int(place * len(nodes)), len(nodes) - 1)]
        node.op_type = by
        if by in ("Identity", "LeakyRelu"):
            del node.input[1:], node.attribute[:]
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        return True

    return change


def _after(find: Callable[[onnx.GraphProto], str | None], text: str) -> Change:
    """Put a piece of ONNX behind a tensor; ``x`` is the tensor and ``y`` what takes its place."""

    def change(graph: onnx.GraphProto) -> bool:
        name = find(graph)
        if name is None:
            return False
        piece = onnx.parser.parse_graph(f"piece (float[n] x) => (float[n] y) {{ {text} }}")
        renamed = {"x": f"{name}/before", "y": name}
        place = next(i for i, n in enumerate(graph.node) if name in n.output)
        maker = graph.node[place]
        maker.output[:] = [renamed["x"] if n == name else n for n in maker.output]
        for offset, node in enumerate(piece.node):
            node.input[:] = [renamed.get(n, f"mutant/{n}" if n else "") for n in node.input]
            node.output[:] = [renamed.get(n, f"mutant/{n}") for n in node.output]
            graph.node.insert(place + 1 + offset, node)
        return True

    return change


def _conv_output(place: float) -> Callable[[onnx.GraphProto], str | None]:
    def find(graph: onnx.GraphProto) -> str | None:
        outputs = [node.output[0] for node in _convs(graph)]
        return outputs[min(int(place * len(outputs)), len(outputs) - 1)] if outputs else None

    return find


def _result(graph: onnx.GraphProto) -> str | None:
    return graph.output[0].name


def _mean(rule: Rule) -> Change:
    def change(graph: onnx.GraphProto) -> bool:
        for tensor in graph.initializer:
            if tensor.name.endswith("mean") and list(tensor.dims) == [3, 1, 1]:
                values = np.ascontiguousarray(rule(numpy_helper.to_array(tensor).copy()))
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
                return True
        return False

    return change


def _constant(name: str, rule: Callable[[list[int]], list[int]]) -> Change:
    """Change the numbers of a Constant by the end of its node's output's name."""

    def change(graph: onnx.GraphProto) -> bool:
        done = False
        for node in graph.node:
            if node.op_type == "Constant" and node.output[0].endswith(name):
                ints = node.attribute[0].ints
                ints[:] = rule(list(ints))
                done = True
        return done

    return change


def _input(node_name: str, place: int, other: str) -> Change:
    """Let a node of the cutting or joining read another tensor; both by the ends of their names."""

    def change(graph: onnx.GraphProto) -> bool:
        names = [n for node in graph.node for n in (*node.input, *node.output)]
        prefix = node_name.partition("/")[0]
        new = next((n for n in names if n in (f"{prefix}/{other}", other)), None)
        for node in graph.node:
            if node_name in node.output and new is not None:
                node.input[place] = new
                return True
        return False

    return change


def _residual(graph: onnx.GraphProto) -> bool:
    adds = [n for n in graph.node if n.op_type == "Add"]
    if not adds:
        return False
    adds[len(adds) // 2].op_type = "Identity"
    del adds[len(adds) // 2].input[1:]
    return True


def _swap(values: NDArray[np.float32], a: int = 1, b: int = 2) -> NDArray[np.float32]:
    """Swap two classes; subpixels are (K, s, s) in one axis, or whole."""
    classes = 6
    if values.shape[0] % classes:
        return values[::-1]
    whole = values.reshape(classes, -1, *values.shape[1:])
    whole[[a, b]] = whole[[b, a]]
    return whole.reshape(values.shape)


def _one(
    values: NDArray[np.float32], rule: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Change one output channel out of all."""
    values[len(values) // 3] = rule(values[len(values) // 3])
    return values


def _noise(share: float) -> Rule:
    random = np.random.default_rng(0)
    return lambda v: v + share * np.abs(v).max() * random.standard_normal(v.shape)


def _levels(bits: int) -> Rule:
    def rule(values: NDArray[np.float32]) -> NDArray[np.float32]:
        step = np.abs(values).max() / (2 ** (bits - 1) - 1)
        return np.round(values / step) * step

    return rule


def _bfloat16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    rounded = (values.view(np.uint32) + 0x8000) & 0xFFFF0000
    return rounded.astype(np.uint32).view(np.float32)


_CLIPPED = """
  a = Constant<value_float = 0.0>()
  b = Constant<value_float = 6.0>()
  y = Clip(x, a, b)
"""
_STEPS = """
  s = Constant<value_float = 16.0>()
  m = Mul(x, s)
  r = Round(m)
  y = Div(r, s)
"""
_FLOAT16_IN_BETWEEN = """
  h = Cast<to = 10>(x)
  y = Cast<to = 1>(h)
"""
_BFLOAT16_IN_BETWEEN = """
  h = Cast<to = 16>(x)
  y = Cast<to = 1>(h)
"""
_BATCH_IN_REVERSE = """
  a = Constant<value_ints = [-1]>()
  b = Constant<value_ints = [-9999]>()
  c = Constant<value_ints = [0]>()
  y = Slice(x, a, b, c, a)
"""
_FIRST_FOR_ALL = """
  z = Constant<value_ints = [0]>()
  o = Constant<value_ints = [1]>()
  f = Slice(x, z, o, z)
  s = Shape(x)
  y = Expand(f, s)
"""
_BATCH_STATISTICS = """
  z = Constant<value_ints = [0]>()
  m = ReduceMean(x, z)
  d = Sub(x, m)
  e = Constant<value_float = 0.05>()
  p = Mul(d, e)
  y = Sub(x, p)
"""
_LAST_ROW_ZERO = """
  s = Constant<value_ints = [0]>()
  e = Constant<value_ints = [-1]>()
  a = Constant<value_ints = [2]>()
  c = Slice(x, s, e, a)
  p = Constant<value_ints = [0, 0, 0, 0, 0, 0, 1, 0]>()
  y = Pad(c, p)
"""
_FIRST_COLUMN_ZERO = """
  s = Constant<value_ints = [1]>()
  e = Constant<value_ints = [9999]>()
  a = Constant<value_ints = [3]>()
  c = Slice(x, s, e, a)
  p = Constant<value_ints = [0, 0, 0, 1, 0, 0, 0, 0]>()
  y = Pad(c, p)
"""
_TOO_HIGH = """
  o = Constant<value_float = 1.0>()
  f = Cast<to = 1>(x)
  g = Add(f, o)
  y = CastLike(g, x)
"""


def _shift_crop(graph: onnx.GraphProto) -> bool:
    both = [_constant(name, lambda v: [x + 1 for x in v])(graph) for name in ("starts", "ends")]
    return all(both)


def _other_stride(strides: list[int]) -> list[int]:
    return [1, 1] if strides == [2, 2] else [2, 2]


MUTANTS: tuple[Mutant, ...] = (
    *(Mutant(f"{part}: one channel zero", _weight(at, 1, lambda v: _one(v, np.zeros_like)))
      for part, at in (("first", 0), ("middle", 0.5), ("last", 1))),
    *(Mutant(f"{part}: one channel negated", _weight(at, 1, lambda v: _one(v, np.negative)))
      for part, at in (("first", 0), ("middle", 0.5), ("last", 1))),
    *(Mutant(f"{part}: kernel transposed", _weight(at, 1, lambda v: v.swapaxes(2, 3)))
      for part, at in (("first", 0), ("middle", 0.5))),
    *(Mutant(f"{part}: kernel mirrored", _weight(at, 1, lambda v: v[..., ::-1]))
      for part, at in (("first", 0), ("middle", 0.5), ("last", 1))),
    *(Mutant(f"{part}: channels in reverse", _weight(at, 1, lambda v: v[::-1]))
      for part, at in (("first", 0), ("middle", 0.5), ("last", 1))),
    *(Mutant(f"{part}: bias dropped", _weight(at, 2, np.zeros_like))
      for part, at in (("first", 0), ("middle", 0.5), ("late", 0.9))),
    *(Mutant(f"{part}: bias in reverse", _weight(at, 2, lambda v: v[::-1]))
      for part, at in (("first", 0), ("middle", 0.5))),
    *(Mutant(f"{part}: weights half a percent larger", _weight(at, 1, lambda v: 1.005 * v))
      for part, at in (("first", 0), ("middle", 0.5))),
    *(Mutant(f"{part}: weights with noise of 1 %", _weight(at, 1, _noise(0.01)))
      for part, at in (("first", 0), ("middle", 0.5), ("last", 1))),
    *(Mutant(f"{part}: weights of 8 bits", _weight(at, 1, _levels(8)))
      for part, at in (("first", 0), ("middle", 0.5), ("last", 1))),
    *(Mutant(f"{part}: weights of 4 bits", _weight(at, 1, _levels(4)))
      for part, at in (("first", 0), ("middle", 0.5))),
    Mutant("first: weights in bfloat16", _weight(0, 1, _bfloat16)),
    Mutant("last: two classes swapped", _weight(1, 1, _swap)),
    Mutant("last: two rare classes swapped", _weight(1, 1, lambda v: _swap(v, 4, 5))),
    Mutant("last: one class never wins", _weight(1, 2, lambda v: _one(v, lambda w: w - 1e3))),
    Mutant("blue, green, red", _weight(0, 1, lambda v: v[:, ::-1])),
    Mutant("mean forgotten", _mean(np.zeros_like)),
    Mutant("mean in blue, green, red", _mean(lambda v: v[::-1])),
    Mutant("mean rounded to whole numbers", _mean(np.round)),
    Mutant("mean not scaled to 0..255", _mean(lambda v: v / 255)),
    Mutant("deviation forgotten", _weight(0, 1, lambda v: v * 0.226)),
    Mutant("deviation of one color for all", _weight(
        0, 1, lambda v: v * np.array([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1) / 0.226)),
    Mutant("padding right and below only", _pads([0, 0, 2, 2])),
    Mutant("padding left and above only", _pads([2, 2, 0, 0])),
    Mutant("padding of the last 3x3 shifted", _pads([0, 1, 2, 1], 1)),
    Mutant("padding missing", _pads([0, 0, 0, 0])),
    Mutant("stride 1 for 2", _attribute("Conv", "strides", _other_stride)),
    Mutant("strides swapped to one side", _attribute("Conv", "strides", [2, 1], 0.1)),
    Mutant("pooling padded on the other side", _attribute("MaxPool", "pads", [0, 0, 2, 2], 0)),
    Mutant("pooling by 2x2", _attribute("MaxPool", "kernel_shape", [2, 2], 0)),
    Mutant("pooling rounds up", _attribute("MaxPool", "ceil_mode", 1, 0)),
    *(Mutant(f"rectifier {part} missing", _replace("Relu", "Identity", at))
      for part, at in (("early", 0.1), ("late", 0.95))),
    Mutant("leaky rectifier", _replace("Relu", "LeakyRelu", 0.5, alpha=0.01)),
    Mutant("shortcut dropped", _residual),
    Mutant("depth to space in the other order", _attribute("DepthToSpace", "mode", b"DCR")),
    Mutant("crop one pixel to the right", _constant("starts", lambda v: [v[0], v[1] + 1])),
    Mutant("crop shifted by one", _shift_crop),
    Mutant("interpolation at corners", _attribute(
        "Resize", "coordinate_transformation_mode", b"align_corners")),
    Mutant("nearest in place of linear", _attribute("Resize", "mode", b"nearest")),
    Mutant("smallest in place of largest", _replace("ArgMax", "ArgMin")),
    Mutant("argmax of another axis", _attribute("ArgMax", "axis", 2)),
    Mutant("activations clipped at 6", _after(_conv_output(0.3), _CLIPPED)),
    Mutant("activations in steps of 1/16", _after(_conv_output(0.5), _STEPS)),
    Mutant("float16 in between", _after(_conv_output(0.5), _FLOAT16_IN_BETWEEN)),
    Mutant("bfloat16 in between", _after(_conv_output(0.5), _BFLOAT16_IN_BETWEEN)),
    Mutant("batch in reverse", _after(_conv_output(0.5), _BATCH_IN_REVERSE)),
    Mutant("first picture for the whole batch", _after(_conv_output(0.5), _FIRST_FOR_ALL)),
    Mutant("statistics of the batch", _after(_conv_output(0.5), _BATCH_STATISTICS)),
    Mutant("last row of the features zero", _after(_conv_output(0.5), _LAST_ROW_ZERO)),
    Mutant("first column of the features zero", _after(_conv_output(0.5), _FIRST_COLUMN_ZERO)),
    Mutant("result one class too high", _after(_result, _TOO_HIGH)),
    Mutant("tiles of multiples of 64", _constant("multiple", lambda _: [64]), whole=True),
    Mutant("second row of tiles at the wrong place", _input("cut/last_h", 1, "zero"), whole=True),
    Mutant("second column of tiles at the wrong place",
           _input("cut/last_w", 1, "zero"), whole=True),
    Mutant("tiles joined in the other order", _input("join/last_w", 1, "zero"), whole=True),
    Mutant("right tile placed at the left", _input("join/late_w", 1, "behind_w"), whole=True),
    Mutant("lower tile placed above", _input("join/late_h", 1, "behind_h"), whole=True),
    Mutant("upper tiles only", _input("join/scene", 1, "early_h"), whole=True),
)  # fmt: skip
