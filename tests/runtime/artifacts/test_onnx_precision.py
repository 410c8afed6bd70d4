"""Files that other tools changed after the export: nothing that is no longer true is claimed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.transformers.float16 import convert_float_to_float16

from fcnkit.errors import ArtifactError, ModelWarning
from fcnkit.runtime.artifacts.description import describe
from fcnkit.runtime.artifacts.onnx_file import SEAL_KEY, read_onnx_bytes, read_onnx_file
from fcnkit.runtime.artifacts.onnx_precision import layer_types
from fcnkit.runtime.artifacts.spec import METADATA_KEY, ModelSpec
from fcnkit.runtime.backends.opening import open_backend
from tests.refusal import refusal
from tests.runtime.models import make_spec, noise_batch, write_model

AGAIN = "export it again with fcnkit export onnx --precision fp32"
MEASURED = "max error 7e-07"


def sealed(path: Path) -> Path:
    """Write head ``logits`` as an export does, with what it measured."""
    write_model(path, make_spec("logits").with_parity(MEASURED))
    model = onnx.load(path)
    entry = model.metadata_props.add()
    entry.key, entry.value = SEAL_KEY, read_onnx_file(path).seal
    onnx.save(model, path)
    return path


class Reader(CalibrationDataReader):
    """Two batches of noise."""

    def __init__(self) -> None:
        self.left = 2

    def get_next(self) -> dict[str, np.ndarray] | None:
        self.left -= 1
        return {"image": noise_batch(make_spec("logits"), (1, 32, 32))} if self.left >= 0 else None


def statically(source: Path, out: Path) -> None:
    quantize_static(source, out, Reader(), quant_format=QuantFormat.QDQ)


def by_operators(source: Path, out: Path) -> None:
    quantize_static(source, out, Reader(), quant_format=QuantFormat.QOperator)


def dynamically(source: Path, out: Path) -> None:
    quantize_dynamic(source, out, op_types_to_quantize=["Conv"])


def halved(source: Path, out: Path) -> None:
    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), out)


def halved_weights(source: Path, out: Path) -> None:
    """Store the kernel in float16 and cast it back, as tools do that only shrink a file."""
    model = onnx.load(source)
    (kernel,) = (tensor for tensor in model.graph.initializer if tensor.name == "kernel")
    values = numpy_helper.to_array(kernel).astype(np.float16)
    kernel.CopyFrom(numpy_helper.from_array(values, "stored"))
    cast = helper.make_node("Cast", ["stored"], ["kernel"], to=TensorProto.FLOAT)
    model.graph.node.insert(0, cast)
    onnx.save(model, out)


def rounded_between(source: Path, out: Path) -> None:
    model = onnx.load(source)
    model.graph.node[0].output[0] = "inner"
    model.graph.node.extend(
        [
            helper.make_node("Cast", ["inner"], ["half"], "round/Cast", to=TensorProto.BFLOAT16),
            helper.make_node("Cast", ["half"], ["logits"], to=TensorProto.FLOAT),
        ]
    )
    onnx.save(model, out)


def nested(source: Path, out: Path) -> None:
    """Hide a float16 convolution in the body of an If."""
    model = onnx.load(source)
    (kernel,) = (tensor for tensor in model.graph.initializer if tensor.name == "kernel")
    half = numpy_helper.from_array(numpy_helper.to_array(kernel).astype(np.float16), "half")
    inner = [
        helper.make_node("Cast", ["image"], ["image16"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["image16", "half"], ["result16"], "hidden", pads=[2] * 4),
        helper.make_node("Cast", ["result16"], ["result"], to=TensorProto.FLOAT),
    ]
    results = [helper.make_tensor_value_info("result", TensorProto.FLOAT, None)]
    body = helper.make_graph(inner, "body", [], results, [half])
    always = helper.make_node(
        "Constant", [], ["always"], value=numpy_helper.from_array(np.array(True))
    )
    branch = helper.make_node("If", ["always"], ["logits"], then_branch=body, else_branch=body)
    del model.graph.node[:]
    model.graph.node.extend([always, branch])
    onnx.save(model, out)


CHANGES: dict[Callable[[Path, Path], None], str] = {
    statically: r"\d of \d that do not \(.*in int8.*\)",
    by_operators: r"\d of \d that do not \(.*in int8.*\)",
    dynamically: r"\d of \d that do not \(.*in int8.*\)",
    halved: r"\d of \d that do not \(.*in fp16.*\)",
    halved_weights: r"1 of 1 that do not \(Conv of logits in fp32 with fp16 weights\)",
    rounded_between: r"1 of 2 that do not \(round/Cast in bf16\)",
    nested: r"\d of \d that do not \(.*hidden in fp16.*\)",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_file_of_less_precision_than_it_says_is_refused(
    change: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    source, out = sealed(tmp_path / "m.onnx"), tmp_path / "changed.onnx"
    change(source, out)
    changed = onnx.load(out)
    if not any(entry.key == METADATA_KEY for entry in changed.metadata_props):
        kept = onnx.load(source).metadata_props
        changed.metadata_props.extend(kept)
        onnx.save(changed, out)
    onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])  # it runs
    rule = "every layer must compute in fp32 as its spec says"
    text = rf"{out}: {rule}, got {CHANGES[change]}; {AGAIN}"
    for opened in (describe, open_backend):
        with pytest.raises(ArtifactError, match=rf"\A{text}\Z"):
            opened(out)


def test_the_parity_is_shown_while_graph_and_spec_are_those_that_were_measured(
    tmp_path: Path,
) -> None:
    path = sealed(tmp_path / "m.onnx")
    assert describe(path)["spec"]["source"]["parity"] == MEASURED
    assert describe(path)["as_exported"] is True


def other_weight(model: onnx.ModelProto) -> None:
    kernel = model.graph.initializer[0]
    values = numpy_helper.to_array(kernel) * np.float32(1.0001)
    kernel.CopyFrom(numpy_helper.from_array(values, kernel.name))


def other_padding(model: onnx.ModelProto) -> None:
    (pads,) = (item for item in model.graph.node[0].attribute if item.name == "pads")
    pads.ints[:] = [1, 1, 3, 3]


def other_classes(model: onnx.ModelProto) -> None:
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            spec = ModelSpec.from_json(entry.value, where="x")
            entry.value = replace(spec, classes=spec.classes[::-1]).to_json()


def no_seal(model: onnx.ModelProto) -> None:
    kept = [entry for entry in model.metadata_props if entry.key != SEAL_KEY]
    copies = [(entry.key, entry.value) for entry in kept]
    helper.set_model_props(model, dict(copies))


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (other_weight, "others"),
        (other_padding, "others"),
        (other_classes, "others"),
        (no_seal, "a file without their hash"),
    ],
)
def test_the_parity_of_another_graph_is_not_shown(
    change: Callable[[onnx.ModelProto], None], got: str, tmp_path: Path
) -> None:
    path = sealed(tmp_path / "m.onnx")
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    with pytest.warns(ModelWarning) as caught:
        found = describe(path)
    with open_backend(path) as backend:  # it warns once: another warning would be an error here
        assert backend.spec.source.parity is None
    assert found["spec"]["source"]["parity"] is None
    assert found["as_exported"] is False
    assert [str(one.message) for one in caught] == [
        f"{path}: its graph and spec must be those that were exported to keep the parity, "
        f"got {got}; the parity is taken as unknown, compare it again with fcnkit verify"
    ]


def test_a_file_saved_again_unchanged_keeps_its_parity(tmp_path: Path) -> None:
    path = sealed(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.producer_name, model.doc_string = "another", "a note"
    onnx.save(model, path)
    assert describe(path)["spec"]["source"]["parity"] == MEASURED


def test_a_graph_that_onnx_runtime_optimized_still_computes_in_fp32(tmp_path: Path) -> None:
    source, out = sealed(tmp_path / "m.onnx"), tmp_path / "optimized.onnx"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(out)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    model = onnx.load(out)
    # It forgets the metadata.
    helper.set_model_props(model, {METADATA_KEY: make_spec("logits").to_json()})
    onnx.save(model, out)
    file = read_onnx_file(out)
    assert file.prove(file.spec(where="x"), where="x").layers == {"fp32": 1}


def test_functions_hide_the_precision(tmp_path: Path) -> None:
    path = sealed(tmp_path / "m.onnx")
    model = onnx.load(path)
    identity = helper.make_node("Identity", ["x"], ["y"])
    opset = helper.make_opsetid("", 18)
    model.functions.append(helper.make_function("local", "Same", ["x"], ["y"], [identity], [opset]))
    onnx.save(model, path)
    with refusal(
        ArtifactError,
        f"{path}: its precision must be visible, in a graph without functions, got 1 functions; "
        "inline them with onnx.inliner, or export the model again",
    ):
        describe(path)


def test_layers_of_one_name_do_not_hide_each_other(tmp_path: Path) -> None:
    path = sealed(tmp_path / "m.onnx")
    model = onnx.load(path)
    node = model.graph.node[0]
    node.name = "same"
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.output[0] = "unused"
    model.graph.node.append(copy)
    file = read_onnx_bytes(model.SerializeToString(), where="x")
    assert layer_types(file.graph).computing == {"same": "fp32", "same'": "fp32"}
