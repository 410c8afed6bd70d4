"""Float16 as a property of the graph: every cast is a node, inputs and outputs keep their types."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from fcnkit.errors import ArtifactError, message

__all__ = ["to_half"]

_LARGEST = float(np.finfo(np.float16).max)
_MAKERS = frozenset({"Constant", "ConstantOfShape", "EyeLike"})
"""Operators that give the type that their attributes say."""


def to_half(model: onnx.ModelProto, *, kept: Callable[[str], bool]) -> onnx.ModelProto:
    """Return a copy of a float32 graph that computes in float16.

    Args:
        model: A checked model; only its float32 tensors change.
        kept: Says by its name whether a node stays in float32.

    Returns:
        The copy. Between nodes of different types stands one Cast per tensor.

    Raises:
        ArtifactError: A weight is too large for float16.
    """
    typed = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    _Conversion(result.graph, typed.graph, kept, opset).run()
    onnx.checker.check_model(result, full_check=True)
    return result


class _Conversion:
    """One pass over the nodes in order; ``types`` holds what each tensor has become so far."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        typed: onnx.GraphProto,
        kept: Callable[[str], bool],
        opset: int,
    ) -> None:
        self.graph, self.kept, self.opset = graph, kept, opset
        infos = (*typed.value_info, *typed.input, *typed.output)
        types = {info.name: info.type.tensor_type.elem_type for info in infos}
        types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
        self.floats = {name for name, kind in types.items() if kind == TensorProto.FLOAT}
        self.types = dict.fromkeys(self.floats, TensorProto.FLOAT)
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        self.casts: dict[tuple[str, int], str] = {}

    def run(self) -> None:
        """Convert the graph in place."""
        for node in self.graph.node:
            wanted = TensorProto.FLOAT if self.kept(node.name) else TensorProto.FLOAT16
            if wanted == TensorProto.FLOAT16 and _needs_float(node, self.opset, 0):
                wanted = TensorProto.FLOAT
            for place, name in enumerate(node.input):
                if name in self.floats:
                    only = _needs_float(node, self.opset, place)
                    node.input[place] = self._as(name, TensorProto.FLOAT if only else wanted)
            if node.op_type not in _MAKERS:
                self.types |= {name: wanted for name in node.output if name in self.floats}
            for attribute in node.attribute:
                if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                    attribute.i = wanted
            self.nodes.append(node)
        for output in self.graph.output:
            self._give_back(output.name)
        used = {name for node in self.nodes for name in node.input}
        weights = [tensor for tensor in self.weights.values() if tensor.name in used]
        del self.graph.node[:], self.graph.initializer[:], self.graph.value_info[:]
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend(weights)

    def _as(self, name: str, wanted: int) -> str:
        """Return the name under which a tensor has the wanted type, casting it where needed."""
        if self.types[name] == wanted:
            return name
        if (name, wanted) not in self.casts:
            new = f"{name}/{'fp16' if wanted == TensorProto.FLOAT16 else 'fp32'}"
            if name in self.weights:
                self.weights[new] = _half_tensor(self.weights[name], new)
            else:
                cast = onnx.helper.make_node("Cast", [name], [new], f"{new}/Cast", to=wanted)
                self.nodes.append(cast)
            self.casts[name, wanted] = new
        return self.casts[name, wanted]

    def _give_back(self, output: str) -> None:
        """Let an output of the graph have the type that it had."""
        if self.types.get(output) != TensorProto.FLOAT16:
            return
        inner = f"{output}/fp16"
        for node in self.nodes:
            node.input[:] = [inner if name == output else name for name in node.input]
            node.output[:] = [inner if name == output else name for name in node.output]
        to = TensorProto.FLOAT
        self.nodes.append(onnx.helper.make_node("Cast", [inner], [output], f"{output}/Cast", to=to))


@lru_cache(maxsize=1024)
def _float_places(op: str, opset: int) -> tuple[bool, ...]:
    """Return for each input of an operator whether ONNX allows no float16 there.

    Such are the scales of a Resize. An operator whose first input is among them computes in
    float32 as a whole.
    """
    try:
        schema = onnx.defs.get_schema(op, opset, "")
    except onnx.defs.SchemaError:
        return ()
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    places = (allowed.get(given.type_str, {given.type_str}) for given in schema.inputs)
    return tuple(_HALF not in types and "tensor(float)" in types for types in places)


_HALF = "tensor(float16)"


def _needs_float(node: onnx.NodeProto, opset: int, place: int) -> bool:
    places = _float_places(node.op_type, opset)
    # The last input of some operators stands for any number of them.
    return bool(places) and places[min(place, len(places) - 1)]


def _half_tensor(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    largest = float(np.abs(values).max(initial=0.0))
    if not largest <= _LARGEST:
        module = tensor.name.rpartition(".")[0] or tensor.name
        rule = f"weights must be at most {_LARGEST:g} in size"
        remedy = f"keep that part in fp32 with --keep-fp32 {module}"
        got = f"{largest:g} in {tensor.name}"
        raise ArtifactError(message("--precision fp16", rule, got, remedy))
    return numpy_helper.from_array(values.astype(np.float16), name)
