"""Classes after prediction, void where the model is not sure, and what the manifest counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fcnkit.runtime import Segmenter, load, predict_files
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.predict.inputs import find_jobs
from fcnkit.runtime.predict.outputs import SUFFIX_OF
from fcnkit.runtime.predict.predictor import Predictor
from fcnkit.runtime.predict.results import ResultRequest, Tally
from tests.refusal import refusal
from tests.runtime.models import CLASSES, PALETTE, make_spec, write_model
from tests.runtime.predict.test_folder import counted, manifest, save
from tests.runtime.predict.test_segmenter import picture

SPEC = make_spec("logits")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "m.onnx", SPEC)


@pytest.fixture(scope="module")
def segmenter(model: Path) -> Iterator[Segmenter]:
    with load(model) as opened:
        yield opened


def run(
    segmenter: Segmenter, folder: Path, out: Path, format: Any = "labels", **wanted: Any
) -> list[Any]:
    request = ResultRequest(**wanted)
    jobs = find_jobs([folder], out, suffix=SUFFIX_OF[format])
    return list(
        predict_files(segmenter, jobs, out, model_sha256="ab", format=format, wanted=request)
    )


def labels_in(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path))


@pytest.mark.parametrize(
    ("wanted", "classes", "labels", "colors"),
    [
        ({"map": "sky=road"}, ("background", "road", "tree"), (0, 1, 2, 1), (0, 3, 2)),
        ({"map": "3=street"}, ("background", "sky", "tree", "street"), (0, 1, 2, 3), (0, 1, 2, 3)),
        ({"keep": "road,tree"}, ("tree", "road"), (255, 255, 0, 1), (2, 3)),
        ({"keep": "road", "map": "*=rest"}, ("background", "road")[1:], None, None),
        ({"map": "background=void"}, ("sky", "tree", "road"), (255, 0, 1, 2), (1, 2, 3)),
        (
            {"map": "tree=road,sky=road", "keep": "background"},
            ("background", "road"),
            (0, 1, 1, 255),
            (0, 1),
        ),
    ],
)
def test_names_and_palette_follow(
    wanted: dict[str, str], classes: Any, labels: Any, colors: Any
) -> None:
    results = ResultRequest(**wanted).resolve(SPEC, confidence=False)
    if labels is None:  # "*" takes what keep leaves
        assert results.spec.classes == ("rest", "road")
        assert results.labels == (0, 0, 0, 1)
        return
    assert results.spec.classes == classes
    assert results.labels == labels
    assert results.spec.palette == tuple(PALETTE[place] for place in colors)
    assert not results.needs_confidence


def test_without_rules_nothing_changes() -> None:
    results = ResultRequest().resolve(SPEC, confidence=False)
    rows = Prediction(np.array([[0, 3]], np.uint8))
    assert results.apply(rows) is rows
    assert results.spec is SPEC
    assert results.labels is None


@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    below=st.sampled_from([1e-9, 0.1, 0.6, 0.999, 1.0]),
    seed=st.integers(0, 99),
    void=st.sampled_from(["", ",void=rest"]),
)
def test_void_comes_before_the_rules(
    height: int, width: int, below: float, seed: int, void: str
) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, (height, width)).astype(np.uint8)
    sure = random.integers(0, 256, labels.shape).astype(np.uint8)
    request = ResultRequest(map=f"sky=rest{void}", void_below=below)
    results = request.resolve(SPEC, confidence=False)
    assert results.needs_confidence
    made = results.apply(Prediction(labels, sure))
    names = results.spec.classes
    unsure = names.index("rest") if void else 255
    for new, old, confidence in zip(made.labels.flat, labels.flat, sure.flat, strict=True):
        name = "rest" if CLASSES[old] == "sky" else CLASSES[old]
        assert new == (unsure if confidence / 255 < below - 1e-12 else names.index(name))
    tally = Tally(names)
    for rows in np.array_split(np.arange(height), 3):
        if len(rows):
            tally.add(Prediction(made.labels[rows], sure[rows]))
    expected = {name: int((made.labels == place).sum()) for place, name in enumerate(names)}
    expected["void"] = int((made.labels == 255).sum())
    assert tally.pixels == {name: count for name, count in expected.items() if count}
    labeled = (made.labels != 255) | (sure > 0)  # the others are as nodata is
    if not labeled.any():
        assert tally.confidence is None
    else:
        assert tally.confidence == pytest.approx(float(sure[labeled].mean()) / 255, abs=1e-6)


def test_files_manifest_and_palette(segmenter: Segmenter, tmp_path: Path) -> None:
    image = picture(70, 101)
    save(tmp_path / "in" / "a.png", image)
    made = segmenter(image, confidence=True)
    assert made.confidence is not None
    (record,) = run(segmenter, tmp_path / "in", tmp_path / "out", keep="sky,road", void_below=0.5)
    expected = np.select([made.labels == 1, made.labels == 3], [0, 1], 255)
    expected[made.confidence < 128] = 255
    labels = labels_in(tmp_path / "out" / "a.png")
    np.testing.assert_array_equal(labels, expected)
    palette = Image.open(tmp_path / "out" / "a.png").getpalette()
    assert palette is not None
    assert palette[:6] == [*PALETTE[1], *PALETTE[3]]
    (line,) = manifest(tmp_path / "out")
    numbers = {255: "void", 0: "sky", 1: "road"}
    found = {numbers[int(k)]: int((labels == k).sum()) for k in np.unique(labels)}
    assert line["pixels"] == found == record.pixels
    assert line["confidence"] == pytest.approx(float(made.confidence.mean()) / 255, abs=1e-6)
    options = line["options"]
    assert options["classes"] == ["sky", "road"]
    assert options["labels"] == [255, 0, 255, 1]
    assert (options["void_below"], options["confidence"]) == (0.5, True)


def test_formats_follow_too(segmenter: Segmenter, tmp_path: Path) -> None:
    image = picture(40, 50)
    save(tmp_path / "in" / "a.png", image)
    made = segmenter(image, confidence=True)
    run(segmenter, tmp_path / "in", tmp_path / "sure", "confidence")
    gray = Image.open(tmp_path / "sure" / "a.png")
    assert gray.mode == "L"
    np.testing.assert_array_equal(np.asarray(gray), made.confidence)
    run(segmenter, tmp_path / "in", tmp_path / "npy", "npy", map="sky=void")
    labels = np.load(tmp_path / "npy" / "a.npy")
    np.testing.assert_array_equal(labels == 255, made.labels == 1)
    run(segmenter, tmp_path / "in", tmp_path / "color", "color", map="sky=road")
    colors = labels_in(tmp_path / "color" / "a.png")
    mapped = np.where(made.labels == 1, 3, made.labels)  # road keeps its color
    np.testing.assert_array_equal(colors, np.array(PALETTE, np.uint8)[mapped])
    run(segmenter, tmp_path / "in", tmp_path / "over", "overlay", keep="sky")
    over = labels_in(tmp_path / "over" / "a.png")[:40, :50]  # above the legend
    np.testing.assert_array_equal(over[made.labels != 1], image[made.labels != 1])


def test_counts_without_options(segmenter: Segmenter, tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png", picture(40, 50))
    run(segmenter, tmp_path / "in", tmp_path / "out")
    (line,) = manifest(tmp_path / "out")
    assert line["pixels"] == counted(tmp_path / "out" / "a.png")
    assert sum(line["pixels"].values()) == 40 * 50
    assert line["confidence"] is None


def test_changed_options_are_noticed(model: Path, segmenter: Segmenter, tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png", picture(40, 50))

    def status(opened: Segmenter = segmenter, **wanted: Any) -> str:
        (record,) = run(opened, tmp_path / "in", tmp_path / "out", **wanted)
        return str(record.status)

    kinds: list[dict[str, Any]] = [
        {},
        {"confidence": True},
        {"void_below": 0.5},
        {"void_below": 0.6},
        {"map": "sky=road"},
        {"map": "sky=road,road=sky"},
        {"map": "sky=avenue"},
        {"keep": "sky"},
    ]
    for wanted in kinds:
        assert status(**wanted) == "done"
        assert status(**wanted) == "skipped"
    # The same rules in other words.
    assert status(map="*=void,sky=sky") == "skipped"
    with load(model, tta="flip") as flipped:
        assert status(flipped) == "done"
        assert status(flipped) == "skipped"
    (record,) = run(segmenter, tmp_path / "in", tmp_path / "out", confidence=True)
    before = (record.pixels, record.confidence)
    (record,) = run(segmenter, tmp_path / "in", tmp_path / "out", confidence=True)
    assert (record.status, record.pixels, record.confidence) == ("skipped", *before)


def test_lines_of_older_versions_count(segmenter: Segmenter, tmp_path: Path) -> None:
    import json

    save(tmp_path / "in" / "a.png", picture(40, 50))
    run(segmenter, tmp_path / "in", tmp_path / "out")
    (line,) = manifest(tmp_path / "out")
    for key in ("pixels", "confidence"):
        del line[key]
    for key in ("tta", "classes", "labels", "void_below", "confidence"):
        del line["options"][key]
    (tmp_path / "out" / "manifest.jsonl").write_text(json.dumps(line) + "\n")
    (record,) = run(segmenter, tmp_path / "in", tmp_path / "out")
    assert (record.status, record.pixels, record.confidence) == ("skipped", None, None)


@pytest.mark.parametrize(
    ("wanted", "kind", "text"),
    [
        (
            {"map": "ship=road"},
            ValueError,
            "--map: must name a class that there is, got 'ship'; the classes are "
            "background (id 0), sky (id 1), tree (id 2), road (id 3), void (id 255)",
        ),
        (
            {"keep": "0,sky,0"},
            ValueError,
            "--keep: a class is named by one rule, got 0 twice; drop one of them",
        ),
        (
            {"map": "*=void"},
            ValueError,
            "--map: 1 to 255 classes must be left, got 0; map fewer classes to void",
        ),
        (
            {"void_below": 0},
            ValueError,
            "predict: void_below must be above 0 and at most 1, got 0; pass one such as 0.6",
        ),
        (
            {"void_below": float("nan")},
            ValueError,
            "predict: void_below must be above 0 and at most 1, got nan; pass one such as 0.6",
        ),
        (
            {"void_below": 60},
            ValueError,
            "predict: void_below must be above 0 and at most 1, got 60; pass one such as 0.6",
        ),
        (
            {"void_below": "0.6"},
            TypeError,
            "predict: void_below must be a number, got str; pass a probability such as 0.6",
        ),
        ({"map": 5}, TypeError, "predict: map must be a str, got int; write rules"),
    ],
)
def test_wrong_rules(
    wanted: dict[str, Any], kind: type[Exception], text: str, segmenter: Segmenter, tmp_path: Path
) -> None:
    save(tmp_path / "in" / "a.png")
    with refusal(kind, text):
        run(segmenter, tmp_path / "in", tmp_path / "out", **wanted)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options", [{"format": "confidence"}, {"void_below": 0.5}, {"confidence": True}]
)
def test_labels_alone_cannot_be_sure(options: dict[str, Any], tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("labels"))
    text = (
        "Segmenter: confidence needs head scores or logits, or a model exported with --confidence, "
        "got head labels; export it again with --confidence"
    )
    save(tmp_path / "in" / "a.png")
    with load(path) as opened, refusal(ValueError, text):
        run(opened, tmp_path / "in", tmp_path / "out", **options)


def test_predictor_takes_the_same(model: Path, segmenter: Segmenter, tmp_path: Path) -> None:
    image = picture(40, 50)
    path = save(tmp_path / "in" / "a.png", image)
    predictor = Predictor(
        model=str(model),
        root=str(tmp_path / "in"),
        out=str(tmp_path / "out"),
        wanted=ResultRequest(keep="sky", confidence=True),
        tta="flip",
    )
    (line,) = predictor([str(path)])
    labels = labels_in(tmp_path / "out" / "a.png")
    assert set(np.unique(labels)) <= {0, 255}
    assert line["pixels"]["sky"] == int((labels == 0).sum())
    assert line["options"]["tta"] == "flip"
    assert 0 < line["confidence"] <= 1


def test_rules_fit_a_model_with_head_scores(tmp_path: Path) -> None:
    image = picture(64, 96)
    save(tmp_path / "in" / "a.png", image)
    path = write_model(tmp_path / "m.onnx", make_spec("scores"))
    with load(path) as scores:
        run(scores, tmp_path / "in", tmp_path / "out", keep="road,tree")
        run(scores, tmp_path / "in", tmp_path / "over", "overlay", keep="road,tree")
        plain = scores(image)
    wanted = np.array([255, 255, 0, 1], np.uint8)[plain]  # background, sky, tree, road
    assert np.array_equal(labels_in(tmp_path / "out" / "a.png"), wanted)
    assert (tmp_path / "over" / "a.png").is_file()
