"""Which operators of an ONNX file only compute with sizes, found without the onnx package.

A library may leave such operators to the CPU: a few integers cost nothing there. Anything else
that it leaves there is the picture's numbers.
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fcnkit.runtime.artifacts.onnx_wire import Field, Source, fields_of, text_of, varint

__all__ = ["size_nodes"]

_INTEGERS: Final = frozenset({2, 3, 4, 5, 6, 7, 9, 12, 13})
"""ONNX's numbers of the integer types and of bool."""

_MOST_NUMBERS: Final = 100
"""Numbers in a constant that may be part of a size."""

_SOURCES: Final = frozenset({"Shape", "Size"})
_ARITHMETIC: Final = frozenset(
    {
        *("Abs", "Add", "And", "Cast", "Concat", "Div", "Equal", "Gather", "Greater"),
        *("GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg"),
        *("Not", "Or", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Sign"),
        *("Slice", "Split", "Squeeze", "Sub", "Sum", "Unsqueeze", "Where"),
    }
)
"""Operators that make no more numbers than they are given. Range, Expand and the like, which
make arrays of a given size, are not among them."""


@dataclass
class _Node:
    kind: str = ""
    name: str = ""
    domain: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    to: int = 0
    """The type that a Cast gives."""
    constant: bool = False
    """Whether it is a Constant of few integers."""


def size_nodes(path: Path) -> set[tuple[str, str]]:
    """Return the operators that compute with sizes alone, in few integers.

    Args:
        path: An ONNX file that ``read_onnx_file`` has read.

    Returns:
        Operator type and node name of each. Of nodes with the same name and type either all are
        meant or none is in it.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        data = Source(content)
        sizes: set[str] = set()
        nodes: list[_Node] = []
        for number, _, start, stop in fields_of(data, 0, len(content)):
            if number == 7:
                nodes, sizes = _read_graph(data, start, stop)
    found: set[tuple[str, str]] = set()
    others: set[tuple[str, str]] = set()
    for node in nodes:  # a graph's nodes stand in the order in which they can run
        key = (node.kind, node.name)
        if _of_sizes(node, sizes):
            sizes.update(node.outputs)
            found.add(key)
        else:
            others.add(key)
    return found - others


def _of_sizes(node: _Node, sizes: set[str]) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.kind in _SOURCES or node.constant:
        return True
    if node.kind not in _ARITHMETIC or (node.kind == "Cast" and node.to not in _INTEGERS):
        return False
    return all(name in sizes for name in node.inputs if name)


def _read_graph(data: Source, start: int, stop: int) -> tuple[list[_Node], set[str]]:
    """Return the nodes, and the names of the constants of few integers."""
    nodes, sizes = [], set()
    for number, _, at, end in fields_of(data, start, stop):
        if number == 1:
            nodes.append(_read_node(data, at, end))
        elif number == 5:
            name, small = _read_tensor(data, at, end)
            if small:
                sizes.add(name)
    return nodes, sizes


def _read_node(data: Source, start: int, stop: int) -> _Node:
    node = _Node()
    for inner in fields_of(data, start, stop):
        if inner[0] == 1:
            node.inputs.append(text_of(data, inner))
        elif inner[0] == 2:
            node.outputs.append(text_of(data, inner))
        elif inner[0] == 3:
            node.name = text_of(data, inner)
        elif inner[0] == 4:
            node.kind = text_of(data, inner)
        elif inner[0] == 7:
            node.domain = text_of(data, inner)
        elif inner[0] == 5:
            _read_attribute(data, inner[2], inner[3], node)
    node.constant = node.constant and node.kind == "Constant"
    return node


def _read_attribute(data: Source, start: int, stop: int, node: _Node) -> None:
    name, number = "", 0
    integers = 0
    for inner in fields_of(data, start, stop):
        if inner[0] == 1:
            name = text_of(data, inner)
        elif inner[0] == 3:
            number, integers = inner[1], integers + 1
        elif inner[0] == 5 and _read_tensor(data, inner[2], inner[3])[1]:
            node.constant = True
        elif inner[0] == 8:
            integers += len(_numbers(data, inner))
    if name == "to":
        node.to = number
    if name in ("value_int", "value_ints") and integers <= _MOST_NUMBERS:
        node.constant = True


def _read_tensor(data: Source, start: int, stop: int) -> tuple[str, bool]:
    """Return a tensor's name, and whether it holds few integers."""
    name, kind, dims = "", 0, list[int]()
    for inner in fields_of(data, start, stop):
        if inner[0] == 8:
            name = text_of(data, inner)
        elif inner[0] == 2:
            kind = inner[1]
        elif inner[0] == 1:
            dims += _numbers(data, inner)
    return name, kind in _INTEGERS and math.prod(dims) <= _MOST_NUMBERS


def _numbers(data: Source, inner: Field) -> list[int]:
    """Return the integers that a field holds: one, or several where they are packed."""
    _, _, at, stop = inner
    found = []
    while at < stop:
        value, at = varint(data, at, stop)
        found.append(value)
    return found
