"""PyTorch to ONNX: one trace of a network, its nodes named after the network's modules."""

from __future__ import annotations

import ast
import logging
import warnings
from typing import Any, Final

import onnx
import torch
from torch import nn

__all__ = ["LOWEST_OPSET", "OPSET", "trace"]

OPSET: Final = 20
"""Of exported graphs by default: what ONNX Runtime, OpenVINO and both TensorRTs read."""

LOWEST_OPSET: Final = 18
"""What older libraries may need. PyTorch's exporter writes nothing older itself, and converting
DeepLabV3's pooling to less fails."""

_SCOPES: Final = "pkg.torch.onnx.name_scopes"
"""Where the exporter notes the modules that a node comes from, outermost first."""


def trace(
    graph: nn.Module,
    example: torch.Tensor,
    source: str,
    result: str,
    *,
    last: str = "",
    opset: int = OPSET,
) -> onnx.ModelProto:
    """Export a module with free batch size and sides that are multiples of 32.

    Args:
        graph: Takes one tensor, gives one.
        example: (N, 3, H, W) or (N, H, W, 3), which tells the layout; N at least 2.
        source: Name for the input.
        result: Name for the output.
        last: Module that the last node belongs to, where the trace does not tell.
        opset: Version of the operator set.

    Returns:
        The ONNX model, input dims declared ``n``, ``32*h`` and ``32*w``, free of the exporter's
        notes. A node is named after its module, such as ``backbone.layer1.0.conv1/Conv``.
    """
    rows, columns = (1, 2) if example.shape[3] == 3 else (2, 3)
    batch, height, width = (torch.export.Dim(name) for name in ("n", "h", "w"))
    shapes: dict[int, Any] = {0: batch, rows: 32 * height, columns: 32 * width}
    with warnings.catch_warnings():
        # The exporter warns about its deprecated internals and logs what it optimized.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            graph.eval(),
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=[source],
            output_names=[result],
            dynamic_shapes=(shapes,),
            verbose=False,
        )
    if program is None:
        raise AssertionError  # only for type checkers: dynamo=True gives a program
    model: onnx.ModelProto = program.model_proto
    _name_nodes(model, last)
    _strip(model)
    return model


def _name_nodes(model: onnx.ModelProto, last: str) -> None:
    """Name every node ``module/Op``, numbered where a module has several of a kind.

    The parameters of convolutions get the state dict's names, folded ones included.
    """
    graph = model.graph
    seen: dict[str, int] = {}
    renamed: dict[str, str] = {}
    for node in graph.node:
        module = last if node is graph.node[-1] and last else _module_of(node)
        name = f"{module}/{node.op_type}" if module else node.op_type
        seen[name] = seen.get(name, 0) + 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name]}"
        if node.op_type == "Conv" and module:
            renamed |= zip(node.input[1:], (f"{module}.weight", f"{module}.bias"), strict=False)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    for tensor in graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)


def _module_of(node: onnx.NodeProto) -> str:
    """Return the innermost module that a node comes from, as the network's state dict names it."""
    text = next((prop.value for prop in node.metadata_props if prop.key == _SCOPES), "[]")
    # The last scope is the operation itself; all others are modules, the first the graph.
    modules = ast.literal_eval(text)[:-1]
    return str(modules[-1]).removeprefix("net").removeprefix(".") if modules else ""


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes: stack traces that name folders of this machine, and such."""
    graph = model.graph
    del model.metadata_props[:], graph.metadata_props[:]
    for entry in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        entry.ClearField("doc_string")
        del entry.metadata_props[:]
