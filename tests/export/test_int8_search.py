"""The search for int8: ONNX Runtime's quantizer, bias correction, and which layers are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantType,
    quantize_static,
)
from torch import nn

from fcnkit.errors import VerifyError
from fcnkit.export import to_onnx
from fcnkit.export.choices import Activations, Ranges
from fcnkit.export.int8 import find_ranges, to_int8
from fcnkit.export.int8_bias import correct_biases, input_means
from fcnkit.export.int8_search import Int8Search, search_int8
from fcnkit.export.subject import verify_path
from fcnkit.export.to_onnx import ExportReport, export_onnx
from fcnkit.train.checkpoint import Checkpoint, checkpoint_spec, save_checkpoint
from fcnkit.train.data.voc import open_voc
from fcnkit.train.models import create_model
from fcnkit.train.models.foreign import register_factory
from fcnkit.train.recipe import RECIPES
from tests.refusal import refusal

SMALL = 96 * 96
GRAPH = """
<ir_version: 8, opset_import: ["" : 18]>
net (float[n, 4, h, w] image) => (float[n, 3, i, j] out) {
  a = Conv <group = 2, pads = [1, 1, 1, 1]> (image, w1, b1)
  b = Relu (a)
  c = Conv <group = 6, strides = [2, 2]> (b, w2)
  d = Relu (c)
  out = Conv (d, w3, b3)
}
"""
SHAPES = {"w1": (6, 2, 3, 3), "b1": (6,), "w2": (6, 1, 3, 3), "w3": (3, 6, 1, 1), "b3": (3,)}
NAMES = ("grouped/Conv", "depthwise/Conv", "pointwise/Conv")


def small_graph() -> onnx.ModelProto:
    """Grouped, depthwise and plain convolutions, one of them without a bias."""
    random = np.random.default_rng(0)
    model = onnx.parser.parse_model(GRAPH)
    for name, shape in SHAPES.items():
        values = random.normal(0, 1, shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    for node, name in zip(convolutions, NAMES, strict=True):
        node.name = name
    onnx.checker.check_model(model, full_check=True)
    return model


def some_inputs(count: int = 5) -> list[NDArray[np.float32]]:
    random = np.random.default_rng(1)
    return [random.normal(0.5, 1, (1, 4, 16, 24)).astype(np.float32) for _ in range(count)]


def run(model: onnx.ModelProto, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    [result] = session.run(None, {"image": batch})
    return result


class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self) -> None:
        self._feeds = iter([{"image": batch} for batch in some_inputs()])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._feeds, None)


@pytest.mark.parametrize("ranges", ["minmax", "percentile", "entropy"])
@pytest.mark.parametrize("activations", ["uint8", "int8"])
def test_the_graph_is_that_of_onnx_runtimes_quantizer(
    ranges: Ranges, activations: Activations, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = small_graph()
    found = find_ranges(model, some_inputs(), ranges=ranges, activations=activations)
    ours = to_int8(model, found, kept=lambda name: name == NAMES[0], activations=activations)
    assert capfd.readouterr().out == ""
    symmetric = activations == "int8"
    methods = {
        "minmax": (CalibrationMethod.MinMax, {}),
        "percentile": (CalibrationMethod.Percentile, {"CalibPercentile": 99.99}),
        "entropy": (CalibrationMethod.Entropy, {}),
    }
    method, options = methods[ranges]
    if ranges != "minmax":
        options = {**options, "CalibTensorRangeSymmetric": symmetric}
    quantize_static(
        small_graph(),
        tmp_path / "theirs.onnx",
        Reader(),
        op_types_to_quantize=["Conv"],
        nodes_to_exclude=[NAMES[0]],
        per_channel=True,
        activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=method,
        extra_options={
            "ActivationSymmetric": symmetric,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            **options,
        },
    )
    theirs = onnx.load(tmp_path / "theirs.onnx")
    assert list(ours.graph.node) == list(theirs.graph.node)
    ours_values, their_values = (
        {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
        for model in (ours, theirs)
    )
    assert ours_values.keys() == their_values.keys()
    for name, values in ours_values.items():
        # Histograms of one image after the other have other edges than of all together.
        tolerance = 0.0 if ranges == "minmax" else 0.1
        np.testing.assert_allclose(
            values.astype(float), their_values[name].astype(float), rtol=tolerance, err_msg=name
        )


def test_the_means_are_those_of_every_channel() -> None:
    model = small_graph()
    means = input_means(model, some_inputs())
    assert list(means) == ["image", "b", "d"]
    expected = np.mean([batch.mean((0, 2, 3), dtype=np.float64) for batch in some_inputs()], axis=0)
    np.testing.assert_allclose(means["image"], expected, rtol=1e-5)
    model.graph.output[0].name = "b"
    inner = np.mean([run(model, batch).mean((0, 2, 3)) for batch in some_inputs()], axis=0)
    np.testing.assert_allclose(means["b"], inner, rtol=1e-5)


def with_rounded(plain: onnx.ModelProto, quantized: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The float32 graph with one layer's weights and bias as the int8 graph has them."""
    values = {one.name: onnx.numpy_helper.to_array(one) for one in quantized.graph.initializer}
    makers = {output: node for node in quantized.graph.node for output in node.output}
    theirs = next(node for node in quantized.graph.node if node.name == name)
    whole, scale = (values[one] for one in makers[theirs.input[1]].input[:2])
    arrays = {"rounded": whole * scale[:, None, None, None]}
    if len(theirs.input) > 2:
        arrays["bias"] = values[theirs.input[2]]
    result = onnx.ModelProto()
    result.CopyFrom(plain)
    for key, array in arrays.items():
        tensor = onnx.numpy_helper.from_array(array.astype(np.float32), key)
        result.graph.initializer.append(tensor)
    node = next(node for node in result.graph.node if node.name == name)
    node.input[:] = [node.input[0], *arrays]
    return result


@pytest.mark.parametrize("name", NAMES)
def test_bias_correction_takes_out_the_mean_error_of_the_weights(name: str) -> None:
    plain = small_graph()
    layer = next(node for node in plain.graph.node if node.name == name)
    # Constant images and no padding: no border where the mean is another one.
    plain.graph.node[0].attribute.remove(plain.graph.node[0].attribute[1])
    flat = [np.full((1, 4, 9, 9), value, np.float32) for value in (0.5, 1.0, 3.0)]
    quantized = to_int8(plain, find_ranges(plain, flat), kept=lambda node: node != name)

    def mean_of(model: onnx.ModelProto) -> NDArray[np.float32]:
        model.graph.output[0].CopyFrom(
            onnx.helper.make_tensor_value_info(layer.output[0], 1, [None] * 4)
        )
        return np.mean([run(model, batch).mean((0, 2, 3)) for batch in flat], axis=0)

    before = mean_of(with_rounded(plain, quantized, name))
    correct_biases(quantized, plain, input_means(plain, flat))
    after = mean_of(with_rounded(plain, quantized, name))
    wanted = mean_of(plain)
    assert np.abs(before - wanted).max() > 1e-3
    np.testing.assert_allclose(after, wanted, atol=2e-5)
    read = {one for node in quantized.graph.node for one in node.input}
    assert {one.name for one in quantized.graph.initializer} <= read


def make(num_classes: int) -> nn.Module:
    """A small network with a depthwise layer; scores of stride 4."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU()),
        *(nn.Conv2d(8, 16, 1), nn.ReLU()),
        nn.Conv2d(16, num_classes, 1),
    )


QUANTIZED = ("module.2", "module.4", "module.6", "module.8")
"""Its layers that int8 does not keep in any case."""


def save_small(data: Path, out: Path, *, factor: float = 1.0) -> Path:
    """Write the network with one channel between two layers that is larger by a factor."""
    name = f"{__name__}:make"
    register_factory(name)
    folder = open_voc(data, split="train")
    torch.manual_seed(0)
    net = create_model(name, len(folder.classes))
    state = net.state_dict()
    state["module.2.weight"][3] *= factor
    state["module.2.bias"][3] *= factor
    state["module.4.weight"][:, 3] /= factor
    spec = checkpoint_spec(name, folder.classes, folder.palette)
    save_checkpoint(
        out,
        Checkpoint(
            spec=spec, model=state, resume=None, epoch=1, recipe=RECIPES["modern"], scores={}
        ),
    )
    return out


def exported(checkpoint: Path, out: Path, data: Path, **options: Any) -> ExportReport:
    return export_onnx(
        checkpoint, out, precision="int8", calibration=data, max_pixels=SMALL, **options
    )


def test_layers_that_share_a_tensor_of_bad_range_are_found(
    shapes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = save_small(shapes_folder, tmp_path / "uneven.pt", factor=300.0)
    searches = []

    def spy(*arguments: Any, **options: Any) -> Int8Search:
        searches.append(search_int8(*arguments, **options))
        return searches[-1]

    monkeypatch.setattr(to_onnx, "search_int8", spy)
    # No graph gains so much, so the search goes on until half of the layers are kept.
    with pytest.raises(VerifyError):
        exported(checkpoint, tmp_path / "m.onnx", shapes_folder, search=True, max_miou_drop=-1.0)
    assert list(tmp_path.iterdir()) == [checkpoint]
    [found] = searches
    layers = [name for name, _ in found.sensitivity]
    assert sorted(layers) == sorted(QUANTIZED)
    assert set(layers[:2]) == {"module.2", "module.4"}
    noises = [noise for _, noise in found.sensitivity]
    assert noises == sorted(noises, reverse=True)
    assert noises[1] > 10 * noises[2]
    assert [one.kept for one in found.attempts] == [0, 1, 2]
    assert found.typing.keep_fp32 == tuple(layers[:2])


def test_a_search_says_what_it_found(shapes_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    checkpoint = save_small(shapes_folder, tmp_path / "small.pt")
    report = exported(checkpoint, out, shapes_folder, search=True, max_miou_drop=1.0)
    found = report.search
    assert found is not None
    assert {(one.ranges, one.correct_bias) for one in found.candidates} == {
        (ranges, bias) for ranges in ("minmax", "percentile", "entropy") for bias in (False, True)
    }
    noises = [one.noise for one in found.candidates]
    assert noises == sorted(noises)
    assert noises[0] > 0
    assert (found.sensitivity, found.typing.keep_fp32) == ((), ())
    [attempt] = found.attempts
    data = report.verify.data
    assert data is not None
    assert (attempt.kept, attempt.miou_drop) == (0, data.miou_drop)
    saved = json.loads(verify_path(out).read_text())["search"]
    assert saved == json.loads(json.dumps(found.to_dict()))
    best = found.candidates[0]
    assert found.summary().startswith(
        f"ranges by {best.ranges}, biases {'corrected' if best.correct_bias else 'as they were'}: "
        f"noise {100 * best.noise:.2f} % of the scores (minmax alone "
    )
    assert found.summary().endswith("; no more layers kept in fp32; looks at the held-out split: 1")


def test_a_search_is_for_int8(run_folder: Path, tmp_path: Path) -> None:
    with refusal(ValueError, "--search: goes with --precision int8, got fp16; leave it out"):
        export_onnx(run_folder / "best.pt", tmp_path / "m.onnx", precision="fp16", search=True)
