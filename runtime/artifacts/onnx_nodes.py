"""Which operators of an ONNX graph only compute with sizes.

A library may leave such operators to the CPU: a few integers cost nothing there. Anything else
that it leaves there computes with the image.
"""

from __future__ import annotations

from typing import Final

from fcnkit.runtime.artifacts.onnx_graph import Graph, Node
from fcnkit.runtime.artifacts.onnx_wire import MAX_NUMBERS

__all__ = ["size_nodes"]

_INTEGERS: Final = frozenset({2, 3, 4, 5, 6, 7, 9, 12, 13})
"""ONNX's numbers of the integer types and of bool."""

_SOURCES: Final = frozenset({"Shape", "Size"})
_ARITHMETIC: Final = frozenset(
    {
        *("Abs", "Add", "And", "Cast", "Concat", "Div", "Equal", "Gather", "Greater"),
        *("GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg"),
        *("Not", "Or", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Sign"),
        *("Slice", "Split", "Squeeze", "Sub", "Sum", "Unsqueeze", "Where"),
    }
)
"""Operators whose results are no longer than their inputs. Range, Expand and others that make
arrays of a given size are not among them."""


def size_nodes(graph: Graph) -> set[tuple[str, str]]:
    """Return the operators that compute with sizes alone, in few integers.

    Args:
        graph: The graph of a file that ``read_onnx_file`` has read.

    Returns:
        Operator type and node name of each. Of several nodes with the same type and name, either
        all compute with sizes or none is returned.
    """
    sizes = {name for name, kind in graph.weights.items() if _is_few(kind, graph.counts[name])}
    found: set[tuple[str, str]] = set()
    others: set[tuple[str, str]] = set()
    for node in graph.nodes:
        if _of_sizes(node, sizes):
            sizes.update(node.outputs)
            found.add((node.op, node.name))
        else:
            others.add((node.op, node.name))
    return found - others


def _is_few(kind: int, count: int) -> bool:
    return kind in _INTEGERS and count <= MAX_NUMBERS


def _of_sizes(node: Node, sizes: set[str]) -> bool:
    if node.op in _SOURCES or (node.op == "Constant" and _is_few(node.held, node.count)):
        return True
    if node.op not in _ARITHMETIC:
        return False
    if node.op == "Cast" and node.integers.get("to") not in _INTEGERS:
        return False
    return all(name in sizes for name in node.inputs if name)
