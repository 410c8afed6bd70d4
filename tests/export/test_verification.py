"""Comparing models, and every fault that was planted is found."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from fcnkit.errors import ArtifactError, DataError, VerifyError
from fcnkit.export.difference import DifferenceMeter
from fcnkit.export.heads import LABEL_GROUPS
from fcnkit.export.shapes import comparison_shapes
from fcnkit.export.subject import Answer, Subject, open_subject
from fcnkit.export.verification import VerifyReport, require, verify
from fcnkit.export.verify_data import open_comparison_data
from fcnkit.runtime.artifacts.onnx_file import read_onnx_file
from fcnkit.runtime.artifacts.precisions import PRECISIONS, Precision
from fcnkit.runtime.artifacts.spec import METADATA_KEY, ModelSpec, ShapeRange, hull
from fcnkit.runtime.backends.base import Backend
from fcnkit.runtime.backends.opening import open_backend
from tests.cli.shell import called, refused
from tests.refusal import refusal
from tests.runtime.models import make_spec, write_model

SMALL = 96 * 96
REMEDY = "one of the two was changed"

NARROW = ShapeRange(min=(1, 320, 480), opt=(4, 320, 480), max=(8, 320, 480))
TWO = (
    ShapeRange(min=(1, 32, 32), opt=(1, 64, 64), max=(1, 128, 128)),
    ShapeRange(min=(2, 64, 32), opt=(2, 96, 64), max=(8, 96, 96)),
)


@pytest.mark.parametrize("profiles", [(NARROW,), TWO], ids=["narrow", "two"])
def test_an_engine_is_compared_on_what_its_profiles_take(
    profiles: tuple[ShapeRange, ...], exported: dict[str, Path]
) -> None:
    """An ONNX session in an engine's place: its spec, as an engine's, is that of all profiles."""
    with open_subject(exported["logits"]) as source, open_subject(exported["labels"]) as opened:
        opened.backend._spec = replace(opened.spec, shapes=hull(profiles))  # type: ignore[attr-defined]
        opened.profiles = profiles
        report = verify(source, opened, max_pixels=SMALL)
        assert all(opened.takes(shape) for shape in report.shapes)
        assert {profile.min for profile in profiles} <= set(report.shapes)
        assert len({shape[0] for shape in report.shapes if shape[0] > 1}) >= 2
        for text in report.bounded:
            assert " bounded to " in text
        assert report.failures == ()


sides = st.integers(1, 40).map(lambda n: 32 * n)
shapes_ = st.tuples(st.integers(1, 40), sides, sides)


@st.composite
def ranges(draw: st.DrawFn) -> ShapeRange:
    drawn = draw(st.tuples(shapes_, shapes_, shapes_))
    axes = [sorted(axis) for axis in zip(*drawn, strict=True)]
    low, opt, high = zip(*axes, strict=True)
    return ShapeRange(min=low, opt=opt, max=high)


@given(st.lists(ranges(), min_size=1, max_size=3), st.sampled_from([2**12, 2**18]))
def test_every_profile_is_compared_on_batches_above_1_and_within_its_range(
    profiles: list[ShapeRange], max_pixels: int
) -> None:
    shapes, _ = comparison_shapes(
        hull(profiles), profiles, heads=["labels", "logits"], max_pixels=max_pixels
    )
    assert len(set(shapes)) == len(shapes)
    few = max(3, *(profile.min[0] + 1 for profile in profiles))
    for profile in profiles:
        inside = [
            shape
            for shape in shapes
            if all(a <= b <= c for a, b, c in zip(profile.min, shape, profile.max, strict=True))
        ]
        possible = range(max(2, profile.min[0]), profile.max[0] + 1)
        batches = {shape[0] for shape in inside if shape[0] > 1}
        assert len(batches) >= min(2, len(possible))
        for batch, height, width in inside:
            assert batch <= few or batch * height * width <= max_pixels
    assert all(side % 32 == 0 for shape in shapes for side in shape[1:])


def compare(a: Path, b: Path, data: Path | None = None) -> VerifyReport:
    with open_subject(a) as first, open_subject(b) as second:
        return verify(
            first, second, data=open_comparison_data(data) if data else None, max_pixels=SMALL
        )


def planted(source: Path, out: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    """Copy an ONNX file with a fault."""
    model = onnx.load(source)
    change(model)
    onnx.save(model, out)
    return out


def change_tensor(
    name: str, rule: Callable[[np.ndarray], np.ndarray]
) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == name)
        values = np.ascontiguousarray(rule(numpy_helper.to_array(tensor)))
        tensor.CopyFrom(numpy_helper.from_array(values, name))

    return change


def change_spec(rule: Callable[[ModelSpec], ModelSpec]) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        entry = next(e for e in model.metadata_props if e.key == METADATA_KEY)
        entry.value = rule(ModelSpec.from_json(entry.value, where="x")).to_json()

    return change


@pytest.mark.parametrize("head", ["logits", "labels", "scene"])
def test_a_checkpoint_and_its_exports_are_the_same(
    head: str, exported: dict[str, Path], run_folder: Path, shapes_folder: Path
) -> None:
    report = compare(run_folder / "best.pt", exported[head], shapes_folder)
    assert report.failures == ()
    assert report.difference.label_agreement >= 0.9999
    assert (report.difference.max_error is None) == (head != "logits")
    assert report.data is not None
    assert report.data.pictures == 4
    assert report.data.mean_iou_a == pytest.approx(report.data.mean_iou_b, abs=1e-3)
    assert (report.a["kind"], report.b["kind"]) == ("checkpoint", "onnx")
    assert report.b["source_sha256"] == report.a["sha256"]
    assert report.b["layers"] == {"fp32": 21 + LABEL_GROUPS if head == "labels" else 22}


def test_any_two_heads_are_compared(exported: dict[str, Path]) -> None:
    both_labels = compare(exported["labels"], exported["scene"])
    assert both_labels.failures == ()
    # Neither gives logits, so nothing can be said of them.
    assert both_labels.difference.max_error is None
    assert both_labels.difference.max_margin is None
    with_logits = compare(exported["scene"], exported["logits"])
    assert with_logits.failures == ()
    assert with_logits.difference.max_margin is not None
    assert (1, 63, 97) in with_logits.shapes


def test_shapes_are_the_smallest_typical_and_largest_bounded(
    exported: dict[str, Path], run_folder: Path
) -> None:
    with open_subject(run_folder / "best.pt") as a, open_subject(exported["labels"]) as b:
        report = verify(a, b)
    shapes, bounded = report.shapes, report.bounded
    assert shapes == (
        (1, 32, 32),
        (1, 320, 480),
        (2, 96, 64),
        (3, 64, 160),
        (1, 512, 512),
        (16, 128, 128),
    )
    assert bounded == (
        "1x2048x2048 bounded to 1x512x512",
        "16x2048x2048 bounded to 16x128x128",
    )


AGREEMENT_OFF = (
    r"label agreement \S+ % below 99\.99 %, label agreement of a picture \S+ % below 99\.9 %"
)
LABELS_OFF = (
    r"largest margin \S+ above 2e-05, largest margin of balanced classes \S+ above 2e-05, "
    rf"{AGREEMENT_OFF}, label agreement of balanced classes \S+ % below 99\.9 %"
)
LOGITS_OFF = (
    r"max error \S+ above 2e-05, mean error \S+ above 2e-06, largest margin \S+ above 2e-05, "
    rf"{AGREEMENT_OFF}"
)


@pytest.mark.parametrize(
    ("head", "tensor", "rule", "got"),
    [
        pytest.param("labels", "final_conv.bias", lambda b: b[::-1] + 1, LABELS_OFF, id="weights"),
        pytest.param("logits", "final_conv.bias", lambda b: b[::-1] + 1, LOGITS_OFF, id="logits"),
        pytest.param("labels", "normalize/mean", np.zeros_like, LABELS_OFF, id="mean"),
        pytest.param("scene", "normalize/mean", np.zeros_like, LABELS_OFF, id="mean of scene"),
        pytest.param("labels", "backbone.conv1.weight", lambda w: w[:, ::-1], LABELS_OFF, id="BGR"),
        pytest.param(
            "logits", "backbone.conv1.weight", lambda w: w[:, ::-1], LOGITS_OFF, id="BGR logits"
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.*to keep the parity")
def test_a_changed_graph_is_found(
    head: str,
    tensor: str,
    rule: Callable[[np.ndarray], np.ndarray],
    got: str,
    exported: dict[str, Path],
    run_folder: Path,
    tmp_path: Path,
) -> None:
    faulty = planted(exported[head], tmp_path / "m.onnx", change_tensor(tensor, rule))
    report = compare(run_folder / "best.pt", faulty)
    text = (
        rf"m\.onnx: must agree with best\.pt within the tolerance of fp32, got {got}; "
        "one of the two was changed"
    )
    with pytest.raises(VerifyError, match=rf"\A{text}\Z"):
        require(report, remedy=REMEDY)


class Flipping:
    """A model of another precision: the network, but for a share of the labels."""

    def __init__(self, backend: Backend, precision: Precision, share: float) -> None:
        self.backend, self.share = backend, share
        self.spec = replace(backend.spec, precision=precision)
        self.info, self.details = backend.info, backend.details

    def infer(self, batch: np.ndarray) -> np.ndarray:
        labels = self.backend.infer(batch)
        wrong = np.random.default_rng(0).random(labels.shape) < self.share
        return np.where(wrong, (labels + 1) % self.spec.num_classes, labels)


@pytest.mark.parametrize(
    ("precision", "share", "limit"),
    [
        ("fp32", 0.0, None),
        ("fp32", 0.0003, "99.99"),
        ("fp16", 0.001, None),
        ("fp16", 0.003, "99.8"),
        ("int8", 0.08, None),
        ("int8", 0.12, "90"),
    ],
)
def test_one_limit_of_labels_holds_on_noise_and_on_data(
    precision: Precision, share: float, limit: str | None, shapes_folder: Path, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "m.onnx", make_spec("labels"))
    data = open_comparison_data(shapes_folder / "JPEGImages")
    with open_backend(model, backend="onnxruntime") as backend:
        first = Subject(backend, name="a", kind="onnx", sha256=None)
        flipping: Any = Flipping(backend, precision, share)
        second = Subject(flipping, name="b", kind="onnx", sha256=None)
        report = verify(first, second, data=data, max_pixels=SMALL)
    assert report.precision == precision
    assert report.tolerance == PRECISIONS[precision].tolerance
    wanted = [f"label agreement {where}" for where in ("", "on data ")] if limit else []
    of_pictures = "label agreement of a picture"
    found = [line for line in report.failures if not line.startswith(of_pictures)]
    assert len(found) == len(wanted)
    for line, begin in zip(found, wanted, strict=True):
        assert re.fullmatch(rf"{begin}\d+\.\d{{4}} % below {limit} %", line)


def other_mean(spec: ModelSpec) -> ModelSpec:
    return replace(spec, input=replace(spec.input, mean=(0.5, 0.5, 0.5)))


def other_classes(spec: ModelSpec) -> ModelSpec:
    return replace(spec, classes=("sky", *spec.classes[1:]))


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (
            other_mean,
            "m.onnx: its spec key input.mean must be that of best.pt, 0.485, 0.456, 0.406, "
            "got 0.5, 0.5, 0.5; export the model again, or compare it with the file it was made "
            "from",
        ),
        (
            other_classes,
            "m.onnx: its spec key classes must be that of best.pt, background, circle, square, "
            "triangle, ..., got sky, circle, square, triangle, ...; export the model again, or "
            "compare it with the file it was made from",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.*to keep the parity")
def test_a_spec_of_another_model_is_found(
    rule: Callable[[ModelSpec], ModelSpec],
    text: str,
    exported: dict[str, Path],
    run_folder: Path,
    tmp_path: Path,
) -> None:
    faulty = planted(exported["logits"], tmp_path / "m.onnx", change_spec(rule))
    with refusal(VerifyError, text):
        compare(run_folder / "best.pt", faulty)


def test_a_spec_that_does_not_fit_the_graph_is_found(
    exported: dict[str, Path], run_folder: Path, tmp_path: Path
) -> None:
    spec = read_onnx_file(exported["labels"]).spec(where="x")
    faulty = planted(exported["logits"], tmp_path / "m.onnx", change_spec(lambda _: spec))
    with refusal(
        ArtifactError,
        f"{faulty}: the input must be image uint8 (any, any, any, 3) as its spec says, "
        "got image float32 (n, 3, 32*h, 32*w); export the model again with fcnkit export onnx",
    ):
        compare(run_folder / "best.pt", faulty)


def test_a_spec_that_claims_another_precision_is_found(
    exported: dict[str, Path], run_folder: Path, tmp_path: Path
) -> None:
    claim = change_spec(lambda spec: replace(spec, precision="fp16"))
    faulty = planted(exported["scene"], tmp_path / "m.onnx", claim)
    with refusal(
        ArtifactError,
        f"{faulty}: every layer must compute in fp16 as its spec says, got 22 of 22 that do not "
        "(backbone.conv1/Conv in fp32, backbone.layer1.0.conv1/Conv in fp32, "
        "backbone.layer1.0.conv2/Conv in fp32, ...); "
        "export it again with fcnkit export onnx --precision fp16",
    ):
        compare(run_folder / "best.pt", faulty)


def test_a_truncated_file_is_found(
    exported: dict[str, Path], run_folder: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "m.onnx"
    cut.write_bytes(exported["labels"].read_bytes()[:-1000])
    with pytest.raises(ArtifactError) as caught:
        compare(run_folder / "best.pt", cut)
    assert re.fullmatch(
        rf"{re.escape(str(cut))}: must be a complete ONNX file, "
        r"got a file that ends \d+ bytes early or is not protobuf; "
        r"copy the file again or export the model again with fcnkit export onnx",
        str(caught.value),
    )


def test_the_command_reports_and_fails(
    exported: dict[str, Path], run_folder: Path, shapes_folder: Path, tmp_path: Path
) -> None:
    source = run_folder / "best.pt"
    options = ("--max-pixels", SMALL, "--json")
    done = called("verify", source, exported["logits"], "--data", shapes_folder, *options)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["passed"] is True
    assert report["data"]["pictures"] == 4
    assert report["difference"]["max_error"] < 1e-3
    twice = change_tensor("final_conv.bias", lambda bias: bias[::-1] + 1)
    faulty = planted(exported["logits"], tmp_path / "m.onnx", twice)
    done = called("verify", source, faulty, *options)
    assert done.returncode == 2
    assert json.loads(done.stdout)["passed"] is False
    warning, error = done.stderr.splitlines()
    assert warning.startswith(f"warning: {faulty}: its graph and spec must be those that were ")
    assert error.startswith(
        "error: m.onnx: must agree with best.pt within the tolerance of fp32, got max error "
    )
    assert done.stderr.endswith("; one of the two was changed, or another export is meant\n")
    done = called("verify", source, faulty, *options, "--max-error", 9, "--min-agreement", 0)
    assert done.returncode == 2
    assert "max error" not in done.stderr


def test_the_command_in_words(
    exported: dict[str, Path], shapes_folder: Path, tmp_path: Path
) -> None:
    labels, small = exported["labels"], ("--max-pixels", SMALL)
    changed = tmp_path / "labels.onnx"
    shutil.copy(labels.with_suffix(".verify.json"), changed.with_suffix(".verify.json"))
    same = change_spec(lambda spec: spec.with_parity("another text"))
    planted(labels, changed, same)
    done = called("verify", labels, changed, "--data", shapes_folder, *small)
    assert done.returncode == 0, done.stderr
    summary, *bounded, on_data, warning = done.stdout.splitlines()
    assert summary.startswith("label agreement 100.0000 % (1x32x32, ")
    assert bounded[0] == "largest shape 1x320x480 bounded to 1x64x96"
    assert on_data.startswith(f"label agreement 100.0000 % on 4 pictures of {shapes_folder}, mean ")
    assert warning == "labels.onnx was changed after the report beside it was written"


def test_the_command_refuses_what_it_cannot_judge(exported: dict[str, Path]) -> None:
    labels = exported["labels"]
    refused(
        called("verify", labels, labels, "--split", "train"),
        "--split: names a list of --data, got train without --data; add --data, or leave it out",
    )
    refused(
        called("verify", labels, labels, "--max-error", 1, "--max-pixels", SMALL),
        "--max-error: limits what can be measured: logits of both sides, a score on labeled data, "
        "got models or data without; leave it out",
    )


def test_data_of_other_classes_or_none_is_refused(
    exported: dict[str, Path], run_folder: Path, shapes_folder: Path, tmp_path: Path
) -> None:
    with refusal(
        DataError,
        f"--data {tmp_path}: must be a folder of pictures or in VOC layout, got no pictures; "
        "check the path",
    ):
        open_comparison_data(tmp_path)
    other = tmp_path / "other"
    shutil.copytree(shapes_folder, other)
    labelmap = (other / "labelmap.txt").read_text()
    (other / "labelmap.txt").write_text(labelmap.replace("circle", "wheel"))
    with refusal(
        DataError,
        f"{other}: the data's classes must be the model's, background, circle, square, "
        "triangle, star, ring, got background, wheel, square, triangle, star, ring; give the data "
        "it was trained for",
    ):
        compare(run_folder / "best.pt", exported["labels"], other)


def test_a_folder_without_truth_gives_agreement_but_no_score(
    exported: dict[str, Path], run_folder: Path, shapes_folder: Path
) -> None:
    report = compare(run_folder / "best.pt", exported["scene"], shapes_folder / "JPEGImages")
    assert report.failures == ()
    assert report.data is not None
    assert report.data.miou_drop is None
    assert report.data.pictures == 20
    assert report.data.summary().endswith("JPEGImages, which has no truth")


def test_labels_that_differ_by_rounding_alone_are_counted_as_ties() -> None:
    labels_nhw = np.zeros((1, 2, 2), np.int64)
    logits_nchw = np.ones((1, 2, 2, 2))
    logits_nchw[0, 1] = [[1 - 1e-6, 1 - 1e-5], [0, 0]]
    others_nhw = np.array([[[1, 1], [0, 0]]])
    meter = DifferenceMeter()
    meter.add(Answer(labels_nhw, logits_nchw), Answer(others_nhw, None))
    assert meter.result().label_agreement == 0.5
    assert meter.result().tied == 0.25
