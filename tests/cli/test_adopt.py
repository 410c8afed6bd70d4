"""``fcnkit adopt`` and ``fcnkit verify --labels`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import fcnkit
from fcnkit.cli import app
from fcnkit.errors import DataError, VerifyError
from fcnkit.runtime.artifacts.onnx_file import read_onnx_file
from tests.export.adopt import graphs
from tests.train.folders import empty_folder

PLAIN = ("--mean", "0", "--std", "1", "--color", "RGB", "--scale", "1")


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=True)


def printed(*words: object) -> list[str]:
    done = run(*words)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout.splitlines()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return graphs.save(tmp_path / "net.onnx", graphs.coarse())


def test_it_says_what_it_found(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    lines = printed("adopt", source, "-o", out, "--head", "labels", *PLAIN)
    assert lines[:-1] == [
        "input x, output y",
        "5 classes, as the network gives scores for; name them with --labelmap",
        "sides are multiples of 4, from 32x32 on, any batch",
        "scores are 4 times smaller than the image, enlarged by bilinear",
        "input RGB, 0..1; of 0..1 in RGB: mean 0,0,0, std 1,1,1",
    ]
    assert lines[-1].startswith(f"{out}: label agreement 100.0000 %")
    assert read_onnx_file(out).is_as_exported


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_a_file_says_what_options_say(suffix: str, source: Path, tmp_path: Path) -> None:
    names = tmp_path / "sub" / "names.txt"
    names.parent.mkdir()
    names.write_text("".join(f"c{n}:{n},0,0::\n" for n in range(5)))
    said = {"mean": [104, 117, 123], "std": 2, "color": "BGR", "scale": 255, "multiple": 8}
    config = names.with_name(f"net.{suffix}")
    # JSON is YAML too.
    config.write_text(json.dumps({**said, "labelmap": "names.txt", "name": "mine"}))
    out = tmp_path / "out.onnx"
    printed("adopt", source, "-o", out, "--config", config, "--multiple", "16")
    spec = read_onnx_file(out).spec(where="out")
    assert spec.classes == ("c0", "c1", "c2", "c3", "c4")
    assert spec.architecture == "mine"
    assert spec.input.multiple == 16
    assert spec.input.mean == pytest.approx((123 / 255, 117 / 255, 104 / 255))
    assert spec.input.std == pytest.approx((2 / 255,) * 3)


@pytest.mark.parametrize(
    ("text", "got"),
    [
        (
            "mode: 3",
            "a key is one of classes, labelmap, mean, std, scale, color, multiple, name, "
            "output, upsample, bands, got 'mode'; take it out",
        ),
        (
            "mean: [1, 2]",
            "mean must be one or three numbers, got a list; write [0.485, 0.456, 0.406]",
        ),
        ("scale: '255'", "scale must be an integer, got a str; change its value"),
        ("- 1", "must map names of options to values, got list; write lines NAME: VALUE"),
    ],
)
def test_a_file_of_something_else(text: str, got: str, source: Path, tmp_path: Path) -> None:
    config = tmp_path / "net.yaml"
    config.write_text(text)
    done = run("adopt", source, "-o", tmp_path / "out.onnx", "--config", config)
    assert isinstance(done.exception, DataError)
    assert str(done.exception) == f"{config}: {got}"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            ("--mean", "a"),
            "--mean: is written as one or three numbers, got 'a'; write 0.485,0.456,0.406",
        ),
        (
            ("--mean", "1,2"),
            "--mean: must be three numbers, got (1.0, 2.0); write 0.485,0.456,0.406",
        ),
        (
            ("--mean", "0"),
            "--mean: goes with --std, got --mean alone; add --std 1,1,1, or the real one",
        ),
        (("--mean", "0", "--std", "0"), "--std: must be positive, got 0,0,0; use 1,1,1"),
        (
            ("--scale", "2"),
            "--scale: must be 1 or 255, got 2; use 255 for a network that takes 0..255",
        ),
        (
            ("--mean", "104", "--std", "1", "--scale", "1"),
            "--mean: must be within 0..1, as the "
            "network takes 0..1, got 104,104,104; use --scale 255 for a network that takes 0..255",
        ),
        (
            ("--split", "val"),
            "--split: names a list of --data, got val without --data; add --data, or leave it out",
        ),
    ],
)
def test_wrong_options(options: tuple[str, ...], text: str, source: Path, tmp_path: Path) -> None:
    done = run("adopt", source, "-o", tmp_path / "out.onnx", *options)
    assert isinstance(done.exception, ValueError)
    assert str(done.exception) == text


def test_data_shows_wrong_claims(
    tmp_path: Path, shapes_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # The network sees its classes in the blue channel; the data's truth is made by it.
    from fcnkit.train.data.voc import open_voc

    first = np.zeros((8, 3, 3, 3), np.float32)
    nodes = graphs.full()
    source = graphs.save(tmp_path / "net.onnx", nodes)
    del first
    folder = tmp_path / "voc"
    names = [sample.image for sample in open_voc(shapes_folder, split="val").samples]
    empty_folder(folder, "".join(f"c{n}:{n * 40},0,0::\n" for n in range(5)))
    for path in names:
        image_hwc = np.asarray(Image.open(path).convert("RGB"))
        Image.fromarray(image_hwc).save(folder / "JPEGImages" / f"{path.stem}.png")
        bgr = image_hwc[:, :, ::-1].astype(np.float64) / 255
        x = np.ascontiguousarray(bgr.transpose(2, 0, 1)[None], np.float32)
        labels = graphs.run(source, x)[0].argmax(0).astype(np.uint8)
        mask = Image.fromarray(labels, "L")
        mask.save(folder / "SegmentationClass" / f"{path.stem}.png")
    lists = folder / "ImageSets" / "Segmentation"
    for split in ("train", "val"):
        (lists / f"{split}.txt").write_text("".join(f"{path.stem}\n" for path in names))
    lines = printed("adopt", source, "-o", tmp_path / "o.onnx", *PLAIN, "--data", folder)
    (line,) = (line for line in lines if line.startswith("mean IoU"))
    assert "--color BGR 1.0000" in line
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == 1
    assert warned[0].startswith("--data: the claims must fit the images best, got mean IoU 0.")
    assert warned[0].endswith("and 1.0000 with --color BGR; try --color BGR")


@pytest.fixture
def client(source: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """A model, images, and the folder of a client's labels."""
    model, images, labels = (tmp_path / name for name in ("m.onnx", "images", "theirs"))
    printed("adopt", source, "-o", model, "--head", "labels", *PLAIN)
    for folder in (images, labels):
        folder.mkdir()
    with fcnkit.load(model) as segmenter:
        for number in range(3):
            image_hwc = graphs.image(64, 96, number)
            Image.fromarray(image_hwc).save(images / f"{number}.png")
            Image.fromarray(segmenter(image_hwc)).save(labels / f"{number}.png")
    return model, images, labels


def test_equal_labels_of_a_client(client: tuple[Path, Path, Path]) -> None:
    model, images, labels = client
    assert printed("verify", model, "--labels", labels, "--data", images) == [
        "100.0000 % of labels agree, on 3 images"
    ]


def test_where_a_clients_labels_differ(client: tuple[Path, Path, Path]) -> None:
    model, images, labels = client
    theirs_hw = np.asarray(Image.open(labels / "1.png")).copy()
    before = theirs_hw[20:30, 40:60].copy()
    theirs_hw[20:30, 40:60] = 4
    Image.fromarray(theirs_hw).save(labels / "1.png")
    wrong = int((before != 4).sum())
    done = run("verify", model, "--labels", labels, "--data", images)
    assert isinstance(done.exception, VerifyError)
    share = f"{100 * (1 - wrong / (3 * 64 * 96)):.4f} %"
    assert str(done.exception) == (
        f"--labels {labels}: at least 99.9 % of the labels must agree with the model's, got "
        f"{share}; see the lines above, and compare the client's preprocessing with fcnkit info"
    )
    lines = done.stdout.splitlines()
    assert lines[0] == f"{share} of labels agree, on 3 images"
    rows, columns = np.nonzero(before != 4)
    assert (
        f"1.png: {100 * (1 - wrong / (64 * 96)):.2f} %, differences in rows {20 + rows.min()} to "
        f"{20 + rows.max()} and columns {40 + columns.min()} to {40 + columns.max()}"
    ) in lines
    confused = {int(value): int((before == value).sum()) for value in np.unique(before)}
    for value, pixels in confused.items():
        if value != 4:
            assert f"class {value} where the client says class 4: {pixels} pixels" in lines
    printed("verify", model, "--labels", labels, "--data", images, "--min-agreement", "0.5")


def test_the_cause_is_named_where_it_is_known(client: tuple[Path, Path, Path]) -> None:
    model, images, labels = client
    with fcnkit.load(model) as segmenter:
        for number in range(3):
            image_hwc = graphs.image(64, 96, number)
            swapped = np.ascontiguousarray(image_hwc[:, :, ::-1])
            Image.fromarray(segmenter(swapped)).save(labels / f"{number}.png")
    done = run("verify", model, "--labels", labels, "--data", images, "--json")
    report = json.loads(done.stdout[: done.stdout.rindex("}") + 1])
    assert report["likely"] == (
        "the client gives the network BGR images, with which 100.00 % agree"
    )


def test_what_does_not_go_with_labels(client: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model, images, labels = client
    for words, text in (
        (
            (),
            "fcnkit verify: compares A with a model B or with --labels, got neither; give one of "
            "the two",
        ),
        (
            (model, "--labels", labels),
            "fcnkit verify: compares A with a model B or with --labels, "
            "got both; give one of the two",
        ),
        (
            ("--labels", labels),
            "--labels: needs the images that were labeled, got no --data; add --data IMAGES",
        ),
        (
            ("--labels", labels, "--data", images, "--max-error", 1),
            "--max-error: goes with a model B, got --labels; leave it out",
        ),
    ):
        done = run("verify", model, *words)
        assert str(done.exception) == text
    Image.new("L", (5, 5)).save(labels / "0.png")
    done = run("verify", model, "--labels", labels, "--data", images)
    assert str(done.exception) == (
        f"{labels / '0.png'}: must be as large as 0.png, 64x96, got 5x5; let the client write "
        "labels in the size of the image"
    )
    Image.new("L", (5, 5)).save(labels / "other.png")
    done = run("verify", model, "--labels", labels, "--data", images)
    assert str(done.exception) == (
        f"--labels {labels}: every label file must have the name of an image, got other.png; give "
        f"the images of these labels with --data, or take them out of {labels}"
    )
