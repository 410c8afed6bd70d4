"""Precision as a property of the graph: which part has which."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx

from fcnkit.errors import BadValueError, message
from fcnkit.export.heads import NORMALIZE, Core
from fcnkit.runtime.artifacts.onnx_precision import inside, module_of
from fcnkit.runtime.artifacts.spec import Precision

__all__ = ["default_kept", "keeper"]


def default_kept(precision: Precision, core: Core) -> tuple[str, ...]:
    """Return the modules that stay in float32 unless more are named.

    Args:
        precision: What the rest becomes.
        core: The network.

    Returns:
        For fp16 the normalization, whose input is exact only in float32. For int8 also the first
        convolution and those that give class scores, as these lose most by 8 bits.
    """
    if precision == "fp32":
        return ()
    if precision == "fp16":
        return (NORMALIZE,)
    first = next(node for node in core.model.graph.node if node.op_type == "Conv")
    return tuple(dict.fromkeys((NORMALIZE, module_of(first.name), *core.scores)))


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
        if name != NORMALIZE and not any(inside(module, name) for module in there):
            tops = {module.partition(".")[0] for module in there if module}
            rule = f"a part is one of {', '.join(sorted(tops))} or what these hold"
            raise BadValueError(message("--keep-fp32", rule, name, "see the node names in Netron"))
    return lambda node: any(inside(module_of(node), name) for name in wanted)
