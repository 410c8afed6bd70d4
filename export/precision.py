"""Precision as a property of the graph: which part has which, and the proof that it does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import onnx
from onnx import TensorProto

from fcnkit.errors import ArtifactError, message
from fcnkit.export.heads import NORMALISE, Core
from fcnkit.runtime.artifacts.spec import METADATA_KEY, ModelSpec, Precision

__all__ = ["KEPT_KEY", "PrecisionProof", "default_kept", "keeper", "prove_precision"]

KEPT_KEY: Final = "kept_fp32"
"""Key in ``metadata_props``: the modules that stay in float32, by comma."""

_COMPUTING: Final = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""The operations that make up nearly all arithmetic, so that their types are the graph's."""

_EIGHT_BITS: Final = (TensorProto.INT8, TensorProto.UINT8)

_NAMES: Final[dict[int, str]] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
}


@dataclass(frozen=True, kw_only=True)
class PrecisionProof:
    """What a graph computes in."""

    asked: Precision
    layers: dict[str, int]
    """Number of convolutions and matrix products by the type that they compute in."""
    kept: tuple[str, ...]
    """The modules that were left in float32 on purpose."""


def default_kept(precision: Precision, core: Core) -> tuple[str, ...]:
    """Return the modules that stay in float32 unless more are named.

    Args:
        precision: What the rest becomes.
        core: The network.

    Returns:
        For fp16 the normalisation, whose input is exact only in float32. For int8 also the first
        convolution and those that give class scores, as these lose most by 8 bits.
    """
    if precision == "fp32":
        return ()
    if precision == "fp16":
        return (NORMALISE,)
    first = next(node for node in core.model.graph.node if node.op_type == "Conv")
    return tuple(dict.fromkeys((NORMALISE, module_of(first.name), *core.scores)))


def module_of(node: str) -> str:
    """Return the module that a node's name begins with: ``a.b`` of ``a.b/Conv``."""
    return node.partition("/")[0]


def keeper(model: onnx.ModelProto, modules: Iterable[str]) -> Callable[[str], bool]:
    """Return what says of a node's name whether it belongs to one of the modules.

    Args:
        model: The graph.
        modules: Names such as ``final_conv`` or ``backbone.layer1``, which stands for all in it.

    Returns:
        The function.

    Raises:
        ValueError: A name fits no node; the names there are listed.
    """
    wanted = tuple(modules)
    there = {module_of(node.name) for node in model.graph.node}
    for name in wanted:
        if name != NORMALISE and not any(inside(module, name) for module in there):
            tops = {module.partition(".")[0] for module in there if module}
            rule = f"a part is one of {', '.join(sorted(tops))} or what these hold"
            raise ValueError(message("--keep-fp32", rule, name, "see the node names in Netron"))
    return lambda node: any(inside(module_of(node), name) for name in wanted)


def inside(module: str, name: str) -> bool:
    """Say whether a module is the one of that name or lies in it."""
    return module == name or module.startswith(f"{name}.")


def prove_precision(model: onnx.ModelProto, *, where: str) -> PrecisionProof:
    """Check that a graph computes in what its spec says, kept modules aside.

    Args:
        model: A model with its metadata.
        where: The file, for the error.

    Returns:
        What was found.

    Raises:
        ArtifactError: A convolution or matrix product computes in another type; the first three
            are named. Or there is no spec.
    """
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    spec = ModelSpec.from_json(metadata.get(METADATA_KEY, ""), where=where)
    kept = tuple(filter(None, metadata.get(KEPT_KEY, "").split(", ")))
    found = _layer_types(model)
    layers: dict[str, int] = {}
    for kind in found.values():
        layers[kind] = layers.get(kind, 0) + 1
    wrong = [
        f"{name} in {kind}"
        for name, kind in found.items()
        if kind != spec.precision
        and not (kind == "fp32" and any(inside(module_of(name), part) for part in kept))
    ]
    if not wrong and spec.precision not in layers:
        rule = f"at least one layer must compute in {spec.precision} as its spec says"
        got = f"{len(found)} layers, {', '.join(layers) or 'none'}"
        raise ArtifactError(message(where, rule, got, "keep less in float32"))
    if wrong:
        shown = ", ".join(wrong[:3]) + (", ..." if len(wrong) > 3 else "")
        rule = f"every layer must compute in {spec.precision} as its spec says"
        got = f"{len(wrong)} of {len(found)} that do not ({shown})"
        remedy = f"export it again with --precision {spec.precision}"
        raise ArtifactError(message(where, rule, got, remedy))
    return PrecisionProof(asked=spec.precision, layers=layers, kept=kept)


def _layer_types(model: onnx.ModelProto) -> dict[str, str]:
    """Return what each computing node computes in, by its name."""
    typed = onnx.shape_inference.infer_shapes(model).graph
    infos = (*typed.value_info, *typed.input, *typed.output)
    types = {info.name: info.type.tensor_type.elem_type for info in infos}
    types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    quantised = {
        node.output[0]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and types.get(node.input[0]) in _EIGHT_BITS
    }
    found: dict[str, str] = {}
    for number, node in enumerate(model.graph.node):
        if node.op_type in _COMPUTING:
            factors = node.input[:2]
            # Where only one comes out of int8, as of a picture that others share, floats multiply.
            if all(name in quantised for name in factors):
                kinds = {"int8"}
            else:
                kinds = {_type_name(types, name) for name in factors}
            name = node.name or f"node {number}"
            found[name] = kinds.pop() if len(kinds) == 1 else " and ".join(sorted(kinds))
    return found


def _type_name(types: dict[str, int], name: str) -> str:
    kind = types.get(name, int(TensorProto.UNDEFINED))
    return _NAMES.get(kind, f"ONNX type {kind}")
