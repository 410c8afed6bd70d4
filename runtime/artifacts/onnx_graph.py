"""The nodes and weights of an ONNX graph, read without the onnx package.

Only what tells the types and sizes of tensors is kept: names, operators, and the attributes that
hold integers or types. The values of the weights are not read.

Source: ``onnx/onnx.proto`` (GraphProto, NodeProto, AttributeProto, TensorProto).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from fcnkit.runtime.artifacts.onnx_wire import (
    MAX_NUMBERS,
    Source,
    WireError,
    fields_of,
    numbers_of,
    text_of,
)

__all__ = ["MAX_DEPTH", "Graph", "Node", "TensorInfo", "read_graph"]

MAX_DEPTH: Final = 100
"""Graphs inside graphs, at most."""


class OnnxType(IntEnum):
    """Types of tensors that an attribute of a node holds, by their number in ONNX."""

    FLOAT = 1
    INT64 = 7
    STRING = 8


class TensorInfo(NamedTuple):
    """A declared input or output."""

    name: str
    """As the graph declares it."""
    dtype: str
    """As numpy spells it, such as ``float32``."""
    dims: tuple[int | str, ...]
    """Numbers, or names such as ``32*h`` where any number is legal."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operation."""

    op: str
    """The operator; ``domain::Op`` where it is not one of ONNX's own."""
    name: str
    """Its name; often empty."""
    inputs: tuple[str, ...]
    """Names of the tensors that it reads; an optional one that is left out is empty."""
    outputs: tuple[str, ...]
    """Names of the tensors that it computes."""
    integers: dict[str, int]
    """Attributes that hold one integer, such as ``to`` of a Cast."""
    held: int
    """ONNX type of the value that an attribute holds, as of a Constant; 0 where there is none."""
    count: int
    """Elements of that value."""
    graphs: tuple[Graph, ...]
    """Bodies, as of an If."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A graph, its nodes in the order in which they are computed."""

    nodes: tuple[Node, ...]
    weights: dict[str, int]
    """ONNX type of each stored tensor, by its name."""
    counts: dict[str, int]
    """Elements of each stored tensor, by its name; of sparse ones those that are not zero."""
    inputs: tuple[TensorInfo, ...]
    """Without the weights, which old files list among the inputs."""
    outputs: tuple[TensorInfo, ...]
    types: dict[str, int]
    """ONNX type of each declared input, by its name."""


DTYPES: Final = {
    1: "float32",
    2: "uint8",
    3: "int8",
    6: "int32",
    7: "int64",
    10: "float16",
    16: "bfloat16",
}


def read_graph(data: Source, start: int, stop: int, *, depth: int = 0) -> Graph:
    """Read a GraphProto.

    Args:
        data: The file.
        start: Where the message begins.
        stop: Where it ends.
        depth: In how many graphs it lies.

    Returns:
        The graph.

    Raises:
        WireError: It is not such a message.
        UnicodeDecodeError: A name is not UTF-8.
    """
    if depth > MAX_DEPTH:
        raise WireError("graphs nested without end")
    nodes, inputs, outputs = [], [], []
    weights: dict[str, int] = {}
    counts: dict[str, int] = {}
    types: dict[str, int] = {}
    for number, _, at, end in fields_of(data, start, stop):
        if number == 1:
            nodes.append(_read_node(data, at, end, depth=depth))
        elif number == 5:
            name, kind, count = _read_tensor(data, at, end)
            weights[name], counts[name] = kind, count
        elif number == 11:
            info, kind = _read_info(data, at, end)
            inputs.append(info)
            types[info.name] = kind
        elif number == 12:
            outputs.append(_read_info(data, at, end)[0])
        elif number == 15:
            for name, kind, count in _read_sparse(data, at, end):
                weights[name], counts[name] = kind, count
    return Graph(
        nodes=tuple(nodes),
        weights=weights,
        counts=counts,
        inputs=tuple(info for info in inputs if info.name not in weights),
        outputs=tuple(outputs),
        types=types,
    )


def _read_node(data: Source, start: int, stop: int, *, depth: int) -> Node:
    texts: dict[int, str] = {}
    inputs, outputs = [], []
    integers: dict[str, int] = {}
    held = count = 0
    graphs: list[Graph] = []
    for field in fields_of(data, start, stop):
        number, _, at, end = field
        if number == 1:
            inputs.append(text_of(data, field))
        elif number == 2:
            outputs.append(text_of(data, field))
        elif number in (3, 4, 7):
            texts[number] = text_of(data, field)
        elif number == 5:
            kind, size = _read_attribute(data, at, end, integers, graphs, depth=depth)
            held, count = (kind, size) if kind else (held, count)
    domain, op = texts.get(7, ""), texts.get(4, "")
    return Node(
        op=op if domain in ("", "ai.onnx") else f"{domain}::{op}",
        name=texts.get(3, ""),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        integers=integers,
        held=held,
        count=count,
        graphs=tuple(graphs),
    )


_VALUES: Final = {
    2: OnnxType.FLOAT,
    3: OnnxType.INT64,
    4: OnnxType.STRING,
    7: OnnxType.FLOAT,
    8: OnnxType.INT64,
    9: OnnxType.STRING,
}
"""Fields of an attribute that hold numbers or strings themselves, with their ONNX type."""


def _read_attribute(
    data: Source,
    start: int,
    stop: int,
    integers: dict[str, int],
    graphs: list[Graph],
    *,
    depth: int,
) -> tuple[int, int]:
    """Add what an attribute holds; return type and elements of a Constant's value, else zeros."""
    name, held, count, integer = "", 0, 0, None
    for field in fields_of(data, start, stop):
        number, value, at, end = field
        if number == 1:
            name = text_of(data, field)
        elif number in (5, 10):
            _, held, count = _read_tensor(data, at, end)
        elif number in (6, 11):
            graphs.append(read_graph(data, at, end, depth=depth + 1))
        elif number in _VALUES:
            held = _VALUES[number]
            # Lists of integers are packed or not, by who wrote them.
            count += len(numbers_of(data, field)) if number == 8 else 1
            integer = value if number == 3 else integer
    if integer is not None:
        integers[name] = integer
    is_value = name == "value" or name.startswith("value_")
    return (held, count) if is_value else (0, 0)


def _read_tensor(data: Source, start: int, stop: int) -> tuple[str, int, int]:
    """Return a tensor's name, its ONNX type and the number of its elements."""
    name, kind, dims = "", 0, list[int]()
    for field in fields_of(data, start, stop):
        if field[0] == 1:
            dims += numbers_of(data, field)
        elif field[0] == 2:
            kind = field[1]
        elif field[0] == 8:
            name = text_of(data, field)
    if len(dims) > MAX_NUMBERS:
        raise WireError(f"a tensor of more than {MAX_NUMBERS} dimensions")
    return name, kind, math.prod(dims)


def _read_sparse(data: Source, start: int, stop: int) -> list[tuple[str, int, int]]:
    """Return the one tensor of values, under whose name a sparse weight is known."""
    return [_read_tensor(data, f[2], f[3]) for f in fields_of(data, start, stop) if f[0] == 1]


def _read_info(data: Source, start: int, stop: int) -> tuple[TensorInfo, int]:
    name, kind = "", 0
    dims: tuple[int | str, ...] = ()
    dtype = "not a tensor"
    for field in fields_of(data, start, stop):
        if field[0] == 1:
            name = text_of(data, field)
        elif field[0] == 2:
            for number, _, at, end in fields_of(data, field[2], field[3]):
                if number == 1:
                    kind, dims = _read_tensor_type(data, at, end)
                    dtype = DTYPES.get(kind, f"ONNX type {kind}") if kind else "undefined"
    return TensorInfo(name=name, dtype=dtype, dims=dims), kind


def _read_tensor_type(data: Source, start: int, stop: int) -> tuple[int, tuple[int | str, ...]]:
    kind = 0
    dims: list[int | str] = []
    for number, value, at, end in fields_of(data, start, stop):
        if number == 1:
            kind = value
        elif number == 2:
            dims = [
                _read_dim(data, dim_at, dim_end)
                for _, _, dim_at, dim_end in fields_of(data, at, end)
            ]
    return kind, tuple(dims)


def _read_dim(data: Source, start: int, stop: int) -> int | str:
    for field in fields_of(data, start, stop):
        if field[0] == 1:
            return field[1]
        if field[0] == 2:
            return text_of(data, field)
    return "?"
