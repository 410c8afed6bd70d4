"""Precision as a property of the graph: which part has which."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx

from fcnkit.errors import BadValueError, message
from fcnkit.export.heads import NORMALIZE, Core
from fcnkit.runtime.artifacts.onnx_precision import inside, module_of
from fcnkit.runtime.artifacts.precisions import PRECISIONS, Part, Precision

__all__ = ["default_kept", "keeper"]


def default_kept(precision: Precision, core: Core) -> tuple[str, ...]:
    """Return the modules that stay in float32 unless more are named.

    Args:
        precision: What the rest becomes.
        core: The network.

    Returns:
        The modules of the parts that the precision's row names.
    """
    convolutions = [node.name for node in core.model.graph.node if node.op_type == "Conv"]
    modules: dict[Part, tuple[str, ...]] = {
        "normalization": (NORMALIZE,),
        "first convolution": tuple(map(module_of, convolutions[:1])),
        "class scores": core.scores,
    }
    kept = (name for part in PRECISIONS[precision].kept for name in modules[part])
    return tuple(dict.fromkeys(kept))


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
