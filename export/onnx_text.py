"""Pieces of ONNX, written in ONNX's own text form and put around a traced network."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import onnx.compose
import onnx.parser

__all__ = ["assemble", "parse_piece"]


def parse_piece(text: str, prefix: str, like: onnx.ModelProto) -> onnx.GraphProto:
    """Parse a piece for the opset of another model.

    Args:
        text: One graph, such as ``name (float[n] x) => (float[n] y) { y = Relu (x) }``.
        prefix: Put before the names of nodes and inner tensors, so that they are unique.
        like: The model whose opset and IR version the piece takes.

    Returns:
        The graph; its inputs and outputs keep their names, its nodes are named ``prefix`` + Op.
    """
    opset = next(entry.version for entry in like.opset_import if not entry.domain)
    header = f'<ir_version: {like.ir_version}, opset_import: ["" : {opset}]>'
    piece = onnx.parser.parse_model(header + text)
    seen: dict[str, int] = {}
    for node in piece.graph.node:
        seen[node.op_type] = count = seen.get(node.op_type, 0) + 1
        node.name = node.op_type if count == 1 else f"{node.op_type}_{count}"
    named = onnx.compose.add_prefix(
        piece, prefix, rename_nodes=True, rename_inputs=False, rename_outputs=False
    )
    return named.graph


def assemble(
    name: str, graphs: Iterable[onnx.GraphProto], like: onnx.ModelProto, *, outputs: int = 1
) -> onnx.ModelProto:
    """Join graphs, each of which reads what those before compute, into one checked model.

    Args:
        name: Of the new graph.
        graphs: In order of computing; tensors of the same name are the same.
        like: The model whose opset and IR version the result takes.
        outputs: How many outputs of the graphs, counted from the last one, are the model's.

    Returns:
        A model with the first graph's inputs and the last graphs' outputs.

    Raises:
        onnx.checker.ValidationError: They do not fit together.
    """
    parts = list(graphs)
    graph = onnx.helper.make_graph(
        [node for part in parts for node in part.node],
        name,
        list(parts[0].input),
        _last_outputs(parts, outputs),
        [tensor for part in parts for tensor in part.initializer],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=list(like.opset_import), ir_version=like.ir_version
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _last_outputs(parts: list[onnx.GraphProto], count: int) -> list[onnx.ValueInfoProto]:
    """Return the last outputs that no later graph reads, in order."""
    read = {tensor.name for part in parts for tensor in part.input}
    free = [tensor for part in parts for tensor in part.output if tensor.name not in read]
    return free[-count:]
