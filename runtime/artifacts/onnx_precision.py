"""What an ONNX graph computes in, proved by its nodes.

Other tools may have changed a file: quantized, halved, optimized. Its spec still says what the
export wrote, so the spec is compared with the graph whenever a file is opened. The types of tensors
follow from the types of the weights and inputs, node by node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from fcnkit.errors import ArtifactError, message
from fcnkit.runtime.artifacts.onnx_graph import Graph, Node, OnnxType
from fcnkit.runtime.artifacts.precisions import NUMBER_TYPES, Precision

__all__ = [
    "LayerTypes",
    "PrecisionProof",
    "inside",
    "layer_types",
    "module_of",
    "prove_precision",
]


@dataclass(frozen=True, kw_only=True)
class PrecisionProof:
    """What a graph computes in."""

    asked: Precision
    layers: dict[str, int]
    """Number of convolutions and matrix products by the type that they compute in."""
    kept: tuple[str, ...]
    """The modules that were left in float32 on purpose."""


def module_of(node: str) -> str:
    """Return the module that a node's name begins with: ``a.b`` of ``a.b/Conv``."""
    return node.partition("/")[0]


def inside(module: str, name: str) -> bool:
    """Say whether a module has that name or lies in the module of that name."""
    return module == name or module.startswith(f"{name}.")


def prove_precision(
    graph: Graph, precision: Precision, kept: Iterable[str], *, where: str
) -> PrecisionProof:
    """Check that a graph computes in what its spec says, kept modules aside.

    Args:
        graph: The graph.
        precision: What the spec says.
        kept: The modules that may compute in float32.
        where: The file, for the error.

    Returns:
        What was found.

    Raises:
        ArtifactError: A layer computes in another type, or the type cannot be told; the first
            three are named.
    """
    kept = tuple(kept)
    found = layer_types(graph)
    looked_at = found.computing | (found.reduced if precision == "fp32" else {})
    wrong = [
        f"{name} in {kind}"
        for name, kind in looked_at.items()
        if kind != precision
        and not (kind == "fp32" and any(inside(module_of(name), part) for part in kept))
    ]
    layers = dict(Counter(found.computing.values()))
    if wrong:
        shown = ", ".join(wrong[:3]) + (", ..." if len(wrong) > 3 else "")
        rule = f"every layer must compute in {precision} as its spec says"
        got = f"{len(wrong)} of {len(looked_at)} that do not ({shown})"
        remedy = f"export it again with fcnkit export onnx --precision {precision}"
        raise ArtifactError(message(where, rule, got, remedy))
    if precision != "fp32" and precision not in layers:
        rule = f"at least one layer must compute in {precision} as its spec says"
        got = f"{len(looked_at)} layers, {', '.join(layers) or 'none'}"
        raise ArtifactError(message(where, rule, got, "keep less in float32"))
    return PrecisionProof(asked=precision, layers=layers, kept=kept)


_BOOL: Final = 9
_UINT8: Final = 2
_INT8: Final = 3
_INT32: Final = 6

_NAMES: Final[dict[int, str]] = {
    **{value: kind.name for kind in NUMBER_TYPES.values() for value in kind.onnx},
    # What other tools write and fcnkit only has to name.
    0: "an unknown type",
    11: "fp64",
    17: "fp8",
    18: "fp8",
    19: "fp8",
    20: "fp8",
    21: "int4",
    22: "int4",
    23: "fp4",
}
_REDUCED: Final = frozenset({10, 16, 17, 18, 19, 20, 23})
"""Floating types that hold less than float32."""

_FLOATS: Final = frozenset(
    [
        "Conv",
        "ConvTranspose",
        "DeformConv",
        "Gemm",
        "MatMul",
        "Einsum",
        "RNN",
        "GRU",
        "LSTM",
        "Attention",
        "FusedConv",
        "FusedMatMul",
        "FusedGemm",
        "NhwcFusedConv",
    ]
)
"""Operations that make up nearly all arithmetic and compute in the types of their operands."""
_INTEGERS: Final = frozenset(
    [
        "ConvInteger",
        "MatMulInteger",
        "QLinearConv",
        "QLinearMatMul",
        "QGemm",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "ConvTransposeWithDynamicQuantize",
        "DynamicQuantizeLSTM",
        "QLinearGlobalAveragePool",
        "QLinearAdd",
        "QLinearConcat",
    ]
)
"""Operations that compute in 8 bits whatever stands around them."""
_FLOAT_DOMAIN: Final = "com.microsoft.nchwc::"
"""Operations of graphs that ONNX Runtime optimized and saved; these exist in float32 only."""

_QUANTIZERS: Final = frozenset(["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"])
_MOVES: Final = frozenset(
    [
        "Cast",
        "DequantizeLinear",
        "Identity",
        "Transpose",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
    ]
)
"""Operations through which a weight stays the weight that is stored."""

_FIXED: Final[dict[str, int]] = {
    **dict.fromkeys(["Shape", "Size", "ArgMax", "ArgMin", "NonZero"], OnnxType.INT64),
    **dict.fromkeys(["ConvInteger", "MatMulInteger"], _INT32),
    **dict.fromkeys(
        [
            "Equal",
            "Less",
            "Greater",
            "LessOrEqual",
            "GreaterOrEqual",
            "And",
            "Or",
            "Xor",
            "Not",
            "IsNaN",
            "IsInf",
        ],
        _BOOL,
    ),
}
"""Operations whose result has one type, whatever their inputs are."""
_TYPED_BY: Final = {
    "CastLike": 1,
    "DequantizeLinear": 1,
    "Where": 1,
    "OneHot": 2,
    "QuantizeLinear": 2,
    "QLinearConv": 7,
    "QLinearMatMul": 7,
}
"""The input that the result has the type of; for all others it is the first one."""


@dataclass(frozen=True, kw_only=True)
class LayerTypes:
    """What the layers of a graph compute in, by the node's name."""

    computing: dict[str, str]
    """Convolutions and matrix products: a type such as ``fp16`` or ``fp32 with int8 weights``."""
    reduced: dict[str, str]
    """Other nodes whose result holds less than float32, and what quantizes or dequantizes."""


def layer_types(graph: Graph) -> LayerTypes:
    """Return what the layers of a graph compute in, those of graphs inside its nodes too."""
    found = LayerTypes(computing={}, reduced={})
    _walk(graph, _Scope({}, {}, {}), found)
    return found


@dataclass(frozen=True)
class _Scope:
    """What is known before a node, by the name of the tensor."""

    types: dict[str, int]
    weights: dict[str, int]
    """The stored ones."""
    makers: dict[str, Node]
    """The node that gives the tensor."""


def _walk(graph: Graph, outer: _Scope, found: LayerTypes) -> list[int]:
    """Note the layers of a graph; return the types of its outputs."""
    scope = _Scope(
        {**outer.types, **graph.types, **graph.weights},
        {**outer.weights, **graph.weights},
        dict(outer.makers),
    )
    for node in graph.nodes:
        bodies = [_walk(body, scope, found) for body in node.graphs]
        results = bodies[0] if bodies else [_result(node, scope.types)]
        if node.op == "Loop":
            results = results[1:]  # the first is the condition
        if node.op == "DynamicQuantizeLinear":
            results = [_UINT8, OnnxType.FLOAT, _UINT8]
        for place, name in enumerate(node.outputs):
            scope.types[name] = results[min(place, len(results) - 1)] if results else 0
            scope.makers[name] = node
        _note(node, scope, found)
    return [scope.types.get(info.name, 0) for info in graph.outputs]


def _result(node: Node, types: Mapping[str, int]) -> int:
    """Return the ONNX type of what a node gives, 0 where that is not known."""
    for attribute in ("to", "dtype", "output_dtype"):
        if node.integers.get(attribute):
            return node.integers[attribute]
    if node.held or node.op in ("Constant", "ConstantOfShape"):
        return node.held or OnnxType.FLOAT
    if node.op in _FIXED:
        return _FIXED[node.op]
    place = _TYPED_BY.get(node.op, 0)
    given = types.get(node.inputs[place], 0) if place < len(node.inputs) else 0
    return _UINT8 if node.op == "QuantizeLinear" and not given else given


def _note(node: Node, scope: _Scope, found: LayerTypes) -> None:
    op = node.op.rpartition("::")[2]
    name = node.name or f"{op} of {', '.join(node.outputs)}"
    while name in found.computing or name in found.reduced:
        name += "'"  # names may repeat, and no layer may hide behind another
    results = [scope.types.get(result, 0) for result in node.outputs]
    if op in _FLOATS:
        found.computing[name] = _computed_in(node, scope)
    elif op in _INTEGERS:
        found.computing[name] = "int8"
    elif "::" in node.op and not node.op.startswith(_FLOAT_DOMAIN):
        found.computing[name] = node.op  # it is unknown what it computes in
    elif op in _QUANTIZERS:
        found.reduced[name] = "int8"
    elif any(kind in _REDUCED for kind in results):
        found.reduced[name] = _name(next(kind for kind in results if kind in _REDUCED))


def _computed_in(node: Node, scope: _Scope) -> str:
    factors = node.inputs[:2]
    # If only one comes from int8, as with a shared input, the product is in float.
    if all(_is_dequantized(name, scope) for name in factors):
        return "int8"
    kinds = {_name(scope.types.get(name, 0)) for name in factors}
    kind = kinds.pop() if len(kinds) == 1 else " and ".join(sorted(kinds))
    stored = {_name(held) for held in (_stored_as(name, scope) for name in factors) if held}
    less = sorted(stored - {kind, "fp32"})
    return f"{kind} with {' and '.join(less)} weights" if less else kind


def _is_dequantized(name: str, scope: _Scope) -> bool:
    maker = scope.makers.get(name)
    if maker is None or maker.op != "DequantizeLinear":
        return False
    return scope.types.get(maker.inputs[0], 0) in (_UINT8, _INT8)


def _stored_as(name: str, scope: _Scope) -> int:
    """Return the ONNX type in which a weight is stored; 0 if the tensor is not a weight."""
    while (maker := scope.makers.get(name)) is not None and maker.op in _MOVES and maker.inputs:
        name = maker.inputs[0]
    if maker is not None:
        return maker.held if maker.op == "Constant" else 0
    return scope.weights.get(name, 0)


def _name(kind: int) -> str:
    return _NAMES.get(kind, f"ONNX type {kind}")
