"""The comparison of an engine with its ONNX file, run here on two ONNX files in place of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fcnkit.errors import VerifyError
from fcnkit.export.engine_verify import compare
from fcnkit.runtime.artifacts.engine_file import EngineFile, read_engine_file
from fcnkit.runtime.artifacts.spec import Head, ShapeRange
from fcnkit.runtime.backends.base import CheckedBackend
from fcnkit.runtime.backends.opening import open_backend
from tests.runtime.engines import make_sidecar, rtx_plan, write_engine
from tests.runtime.models import make_spec, write_model

SHAPES = (
    "1x32x32, 1x64x96, 2x96x64, 2x64x128, 2x64x96, 1x128x128, 2x128x128, 4x192x288, 3x64x160, "
    "2x288x416, 3x224x352, 1x512x512, 16x128x128"
)


def engine_of(model: Path, head: Head) -> EngineFile:
    """Profiles and precision; the plan is noise and is not run."""
    plan = rtx_plan()
    write_engine(model.with_name("m.engine"), plan, make_sidecar(plan, spec=make_spec(head)))
    return read_engine_file(model.with_name("m.engine"))


@pytest.mark.parametrize("head", ["logits", "labels"])
def test_the_same_network_agrees_in_every_shape_a_cpu_can_follow(
    head: Head, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "m.onnx", make_spec(head))
    with open_backend(model, backend="onnxruntime") as backend:
        line = compare(backend, backend, engine_of(model, head), name="m.engine")
    assert line == f"label agreement 100.0000 % with ONNX Runtime ({SHAPES})"


def test_changed_weights_are_caught(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", make_spec("labels"))
    changed = onnx.load(model)
    (bias,) = (tensor for tensor in changed.graph.initializer if tensor.name == "bias")
    values = numpy_helper.to_array(bias) + np.array([9, 0, 0, 0], np.float32)
    bias.CopyFrom(numpy_helper.from_array(values, "bias"))
    onnx.save(changed, tmp_path / "changed.onnx")
    with (
        open_backend(tmp_path / "changed.onnx", backend="onnxruntime") as ours,
        open_backend(model, backend="onnxruntime") as theirs,
        pytest.raises(VerifyError) as caught,
    ):
        compare(ours, theirs, engine_of(model, "labels"), name="m.engine")
    begin = "m.engine: must give the labels of the ONNX file on 99.9 % of all pixels, got label "
    assert str(caught.value).startswith(begin)
    assert str(caught.value).endswith(
        f" % with ONNX Runtime ({SHAPES}); "
        "this is a bug of the exporter or the library, please report it"
    )


class Spoiled:
    """Stands for an engine: the network, but for what ``spoil`` makes of its results."""

    def __init__(self, backend: CheckedBackend, spoil: Callable[[Any, Any], Any]) -> None:
        self.backend, self.spoil = backend, spoil

    def infer(self, batch: Any) -> Any:
        return self.spoil(batch, self.backend.infer(batch))


def first_rows(batch: Any, rows: int) -> Any:
    """1 in the first rows of the smallest picture."""
    count, height, width, _ = batch.shape
    return np.uint8((np.arange(height)[:, None] < rows) & ((count, height, width) == (1, 32, 32)))


@pytest.mark.parametrize(
    ("head", "spoil", "text"),
    [
        (
            "labels",
            lambda batch, labels: (labels + first_rows(batch, 5)) % 4,
            "must give the labels of the ONNX file on 90 % of every picture, got 84.38 % of one",
        ),
        (
            "logits",
            lambda _, logits: 1.5 * logits,
            "must give logits within 0.01 of the largest one, got an error of 5.0e-01",
        ),
        (
            "scene",
            lambda batch, labels: (labels + (batch.shape[1] % 32 > 0)) % 4,
            "must give the labels of the ONNX file on 99.9 % of all pixels, got label agreement ",
        ),
    ],
)
def test_no_picture_outvotes_another(tmp_path: Path, head: Head, spoil: Any, text: str) -> None:
    """The smallest shape has a thousandth of all pixels; scene graphs cut at other sizes only."""
    model = write_model(tmp_path / "m.onnx", make_spec(head))
    with (
        open_backend(model, backend="onnxruntime") as backend,
        pytest.raises(VerifyError) as caught,
    ):
        ours: Any = Spoiled(backend, spoil)
        profile = ShapeRange(min=(1, 32, 32), opt=(1, 320, 480), max=(1, 1024, 1024))
        file = replace(engine_of(model, "labels"), spec=make_spec(head), profiles=(profile,))
        compare(ours, backend, file, name="m.engine")
    assert str(caught.value).startswith(f"m.engine: {text}")


def test_fp16_may_fall_otherwise_on_a_few_ties(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", make_spec("logits"))
    file = engine_of(model, "logits")
    half = replace(file, spec=replace(file.spec, precision="fp16"))
    changed = onnx.load(model)
    for tensor in changed.graph.initializer:
        values = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(changed, tmp_path / "half.onnx")
    with (
        open_backend(tmp_path / "half.onnx", backend="onnxruntime") as ours,
        open_backend(model, backend="onnxruntime") as theirs,
    ):
        line = compare(ours, theirs, half, name="m.engine")
    assert line != f"label agreement 100.0000 % with ONNX Runtime ({SHAPES})"
