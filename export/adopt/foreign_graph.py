"""An ONNX graph from elsewhere, brought into the form that the heads are put around."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fcnkit.errors import ArtifactError, message
from fcnkit.export.trace import LOWEST_OPSET
from fcnkit.runtime.artifacts.onnx_file import read_onnx_bytes
from fcnkit.runtime.artifacts.onnx_graph import MAX_DEPTH
from fcnkit.runtime.artifacts.onnx_precision import layer_types

__all__ = ["FINE", "IMAGE", "cleaned", "declared", "image_input"]

IMAGE: Final = "image"
FINE: Final = "fine"
"""Names of the input and the output of a cleaned graph, which are a core's."""

_PREFIX: Final = "net/"
"""Before every other name, so that none is that of a piece which is put around the graph."""

_CONTROL: Final = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_RANDOM: Final = frozenset(
    {
        *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
        *("Multinomial", "Bernoulli"),
    }
)
_SHOWN: Final = 4
_MOST_NODES: Final = 1_000_000


def image_input(model: onnx.ModelProto, *, where: str) -> onnx.ValueInfoProto:
    """Return the one input that is not a weight: float32 (N, 3, H, W).

    Args:
        model: The model.
        where: The file, for the error.

    Raises:
        ArtifactError: There are more, or it is another tensor.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    found: list[onnx.ValueInfoProto] = [
        info for info in model.graph.input if info.name not in stored
    ]
    rule = "must have one input, the image as float32 (N, 3, H, W)"
    if len(found) != 1:
        got = " and ".join(info.name for info in found[:_SHOWN]) or "none"
        remedy = "export the network with the image as its only input"
        raise ArtifactError(message(where, rule, f"{len(found)} inputs: {got}", remedy))
    dims = declared(found[0])
    kind = found[0].type.tensor_type.elem_type
    if kind != TensorProto.FLOAT or len(dims) != 4 or not (dims[1] == 3 or dims[1] is None):
        dtype = helper.tensor_dtype_to_string(kind).removeprefix("TensorProto.").lower()
        sides = ", ".join("?" if dim is None else str(dim) for dim in dims)
        got = f"{found[0].name} {dtype} ({sides})"
        remedy = "export the network for float32 images, channels first"
        if kind == TensorProto.FLOAT and len(dims) == 4 and dims[3] not in (1, 3, 4):
            rule = "a network must take three inputs: red, green and blue, (N, 3, H, W)"
            remedy = "adopt one of three; --bands says which samples they are"
        raise ArtifactError(message(where, rule, got, remedy))
    return found[0]


def declared(info: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """Return the dims of a tensor, None for a free one."""
    dims = info.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.dim_value > 0 else None for dim in dims)


def cleaned(model: onnx.ModelProto, output: str, *, where: str) -> onnx.ModelProto:
    """Reduce a model to what computes one output, in ONNX's own operators.

    Args:
        model: A model with one image input; it is left as it is.
        output: The output to keep.
        where: The file, for errors.

    Returns:
        A checked model with input ``image`` and output ``fine``, its opset what the heads need or
        newer, its nodes named ``module/Op``.

    Raises:
        ArtifactError: It has operators that are refused, or is not a valid model.
    """
    try:
        work = _inlined(model, where=where)
        _keep_needed(work, output)
        _refuse_operators(work, where=where)
        work = _modern(work, where=where)
        _store_constants(work.graph)
        _drop_copies(work.graph, output)
        _rename(work, output)
        _refuse_precision(work, where=where)
        onnx.checker.check_model(work, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise _invalid(where, error) from None
    except (ValueError, RuntimeError, TypeError, IndexError, KeyError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise _invalid(where, error) from None
    return work


def _invalid(where: str, error: Exception) -> ArtifactError:
    got = " ".join(str(error).split())[:200] or type(error).__name__
    remedy = "check it with onnx.checker, and export it again"
    return ArtifactError(message(where, "must be a valid ONNX graph", got, remedy))


def _inlined(model: onnx.ModelProto, *, where: str) -> onnx.ModelProto:
    if model.functions:
        _check_functions(model, where=where)
        from onnx import inliner

        result: onnx.ModelProto = inliner.inline_local_functions(model)
        return result
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _check_functions(model: onnx.ModelProto, *, where: str) -> None:
    """Refuse functions that call themselves, or that would become too many nodes."""
    functions = {(f.domain, f.name): f for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    open_: set[tuple[str, str]] = set()

    def size(nodes: Iterable[onnx.NodeProto]) -> int:
        total = 0
        for node in nodes:
            bodies = (a.g.node for a in node.attribute if a.HasField("g"))
            total += 1 + sum(map(size, bodies)) + called((node.domain, node.op_type))
            if total > _MOST_NODES:
                got, remedy = "more of them", "inline its functions, or export it again"
                rule = f"must have at most {_MOST_NODES} nodes"
                raise ArtifactError(message(where, rule, got, remedy))
        return total

    def called(key: tuple[str, str]) -> int:
        if key not in functions:
            return 0
        if key in open_ or len(open_) > MAX_DEPTH:
            rule, remedy = "must have functions that end", "export it again"
            raise ArtifactError(message(where, rule, f"{key[1]}, which calls itself", remedy))
        if key not in sizes:
            open_.add(key)
            sizes[key] = size(functions[key].node)
            open_.discard(key)
        return sizes[key]

    size(model.graph.node)


def _keep_needed(model: onnx.ModelProto, output: str) -> None:
    """Drop every node, weight and output that the wanted output does not need."""
    graph = model.graph
    needed, nodes = {output}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= {name for name in node.input if name}
            needed |= _read_in_bodies(node)
    kept = [helper_copy(node) for node in reversed(nodes)]
    del graph.node[:]
    graph.node.extend(kept)
    for field in (graph.initializer, graph.value_info):
        wanted = [item for item in field if item.name in needed]
        del field[:]
        field.extend(wanted)
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [info for info in graph.input if info.name not in stored]
    outputs = [info for info in graph.output if info.name == output]
    del graph.input[:], graph.output[:]
    graph.input.extend(inputs)
    graph.output.extend(outputs)
    del model.functions[:], model.training_info[:], model.metadata_props[:]


def helper_copy(node: onnx.NodeProto) -> onnx.NodeProto:
    """Return a copy without the notes of the exporter, which name folders of its machine."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.ClearField("doc_string")
    del copy.metadata_props[:]
    return copy


def _read_in_bodies(node: onnx.NodeProto) -> set[str]:
    bodies = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    names = {name for body in bodies for inner in body.node for name in inner.input}
    return names.union(*(_read_in_bodies(inner) for body in bodies for inner in body.node))


def _refuse_operators(model: onnx.ModelProto, *, where: str) -> None:
    """Refuse by name what not every library runs, or what gives another result every time."""
    nodes = model.graph.node
    custom = [f"{n.domain}::{n.op_type}" for n in nodes if n.domain not in ("", "ai.onnx")]
    _refuse(custom, "must hold operators of ONNX alone", "export it without them", where)
    control = [node.op_type for node in nodes if node.op_type in _CONTROL]
    remedy = "export it with torch.onnx.export(..., dynamo=True), or simplify it with onnxslim"
    _refuse(control, "must have no control flow", remedy, where)
    chance = [node.op_type for node in nodes if node.op_type in _RANDOM or _trains(node)]
    remedy = "call eval() on the network before its export"
    _refuse(chance, "must give the same result every time", remedy, where)
    if model.graph.sparse_initializer:
        got = f"{len(model.graph.sparse_initializer)} sparse weights"
        remedy = "export it with dense weights"
        raise ArtifactError(message(where, "must hold dense weights", got, remedy))


def _trains(node: onnx.NodeProto) -> bool:
    if node.op_type == "BatchNormalization":
        return any(a.name == "training_mode" and a.i for a in node.attribute)
    # A third input says whether a Dropout is at work; the exporter leaves it out for evaluation.
    return node.op_type == "Dropout" and len(node.input) > 2 and bool(node.input[2])


def _refuse_precision(model: onnx.ModelProto, *, where: str) -> None:
    """Refuse a graph that does not compute in float32: fcnkit proves what it lowers itself."""
    graph = read_onnx_bytes(model.SerializeToString(), where=where).graph
    types = layer_types(graph)
    other = [kind for kind in types.computing.values() if kind != "fp32"]
    other += types.reduced.values()
    remedy = "export it in float32, and lower the precision with fcnkit adopt --precision"
    _refuse((f"nodes in {kind}" for kind in other), "must compute in float32", remedy, where)


def _refuse(found: Iterable[str], rule: str, remedy: str, where: str) -> None:
    counts = Counter(found)
    if counts:
        names = [f"{count} {name}" for name, count in counts.most_common(_SHOWN)]
        more = f" and {len(counts) - _SHOWN} more kinds" if len(counts) > _SHOWN else ""
        raise ArtifactError(message(where, rule, ", ".join(names) + more, remedy))


def _modern(model: onnx.ModelProto, *, where: str) -> onnx.ModelProto:
    """Convert to an operator set in which the heads can be written."""
    lowest = LOWEST_OPSET
    opset = next((e.version for e in model.opset_import if e.domain in ("", "ai.onnx")), 0)
    if opset < lowest:
        from onnx import version_converter

        try:
            model = version_converter.convert_version(model, lowest)
        except Exception as error:
            rule = f"must have operator set {lowest} or one that onnx converts to it"
            got = f"{opset}, {' '.join(str(error).split())[:150]}"
            remedy = f"export it again with opset_version={lowest}"
            raise ArtifactError(message(where, rule, got, remedy)) from None
    plain = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")][:1]
    versions = [helper.make_opsetid("", entry.version) for entry in plain]
    del model.opset_import[:]
    model.opset_import.extend(versions)
    model.ir_version = helper.find_min_ir_version_for(versions)
    return model


def _store_constants(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes into stored tensors, as precision passes look for weights there."""
    kept = []
    for node in graph.node:
        tensor = _constant(node)
        if tensor is None:
            kept.append(helper_copy(node))
        else:
            graph.initializer.append(tensor)
    del graph.node[:]
    graph.node.extend(kept)


def _drop_copies(graph: onnx.GraphProto, output: str) -> None:
    """Let nodes read a stored tensor itself where TorchScript put an Identity before it.

    The quantizer takes what an Identity gives for an activation.
    """
    names = {tensor.name: tensor.name for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        given = node.input[0] if node.input else ""
        if node.op_type == "Identity" and given in names and node.output[0] != output:
            names[node.output[0]] = names[given]
        else:
            copy = helper_copy(node)
            copy.input[:] = [names.get(name, name) for name in node.input]
            kept.append(copy)
    del graph.node[:]
    graph.node.extend(kept)


def _constant(node: onnx.NodeProto) -> TensorProto | None:
    if node.op_type != "Constant" or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    if attribute.name == "value":
        tensor = TensorProto()
        tensor.CopyFrom(attribute.t)
        tensor.name = node.output[0]
        return tensor
    kinds: dict[str, Any] = {"value_float": np.float32, "value_floats": np.float32}
    kinds |= {"value_int": np.int64, "value_ints": np.int64}
    if attribute.name not in kinds:
        return None
    values = np.array(helper.get_attribute_value(attribute), kinds[attribute.name])
    return numpy_helper.from_array(values, node.output[0])


def _rename(model: onnx.ModelProto, output: str) -> None:
    """Name tensors so that no piece around the graph has the same name, and nodes by module."""
    graph = model.graph
    source = graph.input[0].name
    names = {source: IMAGE, output: FINE, "": ""}

    def new(name: str) -> str:
        return names.get(name, f"{_PREFIX}{name}")

    seen: Counter[str] = Counter()
    for node in graph.node:
        node.input[:] = [new(name) for name in node.input]
        node.output[:] = [new(name) for name in node.output]
        name = f"{_module(node)}/{node.op_type}"
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name]}"
        node.ClearField("domain")
    for tensor in graph.initializer:
        tensor.name = new(tensor.name)
        tensor.ClearField("doc_string")
        del tensor.metadata_props[:]
    del graph.value_info[:]
    graph.name, graph.doc_string = "adopted", ""
    del graph.metadata_props[:]
    graph.input[0].name, graph.output[0].name = IMAGE, FINE
    for info in (graph.input[0], graph.output[0]):
        info.ClearField("doc_string")


def _module(node: onnx.NodeProto) -> str:
    """Return ``net.encoder.conv1`` of ``/encoder/conv1/Conv``, or the node's name as its module."""
    parts = [part for part in re.split(r"[/:]+", node.name) if part]
    if len(parts) > 1 and parts[-1].startswith(node.op_type):
        parts = parts[:-1]
    plain = [re.sub(r"[^\w.-]", "_", part) for part in parts]
    return ".".join(["net", *plain])
