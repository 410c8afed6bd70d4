"""``fcnkit predict``, ``info`` and ``doctor`` as a shell sees them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcnkit.runtime.files import sha256_of
from tests.cli.shell import called, fcnkit, refused
from tests.runtime.models import CLASSES, make_spec, write_model

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "m.onnx", make_spec("labels"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for name, size in (("a.jpg", (50, 40)), ("sub/b.png", (33, 70))):
        noise = np.random.default_rng(1).integers(0, 256, (*size[::-1], 3), np.uint8)
        Image.fromarray(noise).save(folder / name)
    return folder


def test_predict_a_folder(model: Path, pictures: Path, tmp_path: Path) -> None:
    done = called("predict", model, pictures, "-o", tmp_path / "out", "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 done, 0 failed in ")
    assert done.stdout.endswith(f"; see {tmp_path}/out/manifest.jsonl\n")
    assert "\x1b" not in done.stdout + done.stderr
    for name, size in (("a.png", (50, 40)), ("sub/b.png", (33, 70))):
        with Image.open(tmp_path / "out" / name) as written:
            assert (written.mode, written.size) == ("P", size)


def test_predict_takes_only_the_images_of_a_data_set(
    model: Path, pictures: Path, tmp_path: Path
) -> None:
    source, out = tmp_path / "set", tmp_path / "out"
    source.mkdir()
    pictures.rename(source / "JPEGImages")
    (source / "SegmentationClass").mkdir()
    Image.new("P", (50, 40)).save(source / "SegmentationClass" / "a.png")
    note = f"note: {source} is in VOC layout: only {source}/JPEGImages is labeled\n"
    done = called("predict", model, source, "-o", out, "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(note)
    assert done.stdout.endswith("passed over, not pictures: beside JPEGImages 1\n")
    results = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert results == ["JPEGImages/a.png", "JPEGImages/sub/b.png"]
    done = called("predict", model, source, "-o", out, "--threads", 1, "--json")
    assert done.stderr.startswith(note)
    assert (json.loads(done.stdout)["skipped"], json.loads(done.stdout)["passed_over"]) == (2, 1)


def test_predict_json(model: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "broken.png").write_text("broken")
    arguments = ("predict", model, pictures, "-o", tmp_path / "out", "--json", "--threads", 1)
    done = called(*arguments)
    assert done.returncode == 1
    assert (
        f"failed: {pictures}/broken.png: must be a picture file, got something else; "
        "replace the file\n"
    ) in done.stderr
    summary = json.loads(done.stdout)
    assert summary.pop("seconds") >= 0
    assert summary.pop("images_per_second") >= 0
    assert summary.pop("library").startswith("onnxruntime ")
    labels = [np.asarray(Image.open(path)).ravel() for path in (tmp_path / "out").rglob("*.png")]
    counts = np.bincount(np.concatenate(labels), minlength=len(CLASSES))
    assert summary.pop("pixels") == {
        name: count for name, count in zip(CLASSES, counts.tolist(), strict=True) if count
    }
    assert summary == {
        "found": 3,
        "found_all": True,
        "done": 2,
        "failed": 1,
        "skipped": 0,
        "passed_over": 0,
        "manifest": f"{tmp_path}/out/manifest.jsonl",
        "format": "labels",
        "cover": "pad",
        "tile": None,
        "overlap": None,
        "tta": None,
        "confidence": None,
        "backend": "onnxruntime",
        "provider": "CPUExecutionProvider",
        "threads": 1,
        "compute": "fp32",
        "auto": "onnxruntime is the first choice for fp32 files of those that open here",
    }
    text = (tmp_path / "out" / "manifest.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert sorted(line["status"] for line in lines) == ["done", "done", "failed"]
    assert {line["model_sha256"] for line in lines} == {sha256_of(model)}


def test_predict_fail_fast(model: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "a.jpg").write_text("broken")
    done = called("predict", model, pictures, "-o", tmp_path / "out", "--fail-fast")
    assert done.returncode == 1
    assert done.stdout.startswith("0 done, 1 failed, 1 not tried in ")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            ["--cover", "average"],
            "Segmenter: a model with head labels takes cover='pad', got 'average'; a labels graph "
            "gives no logits to average; use cover='pad', or export with --head scores, "
            "logits or scene",
        ),
        (
            ["--format", "gif"],
            "--format: must be one of labels, color, overlay, npy, confidence, tif, got gif; "
            "choose one of these",
        ),
        (
            ["--backend", "tensorrt"],
            "open_backend: backend tensorrt runs engines, got m.onnx; "
            "build one with fcnkit export engine",
        ),
        (["--threads", "0"], "open_backend: threads must be at least 1, got 0; pass threads=2"),
    ],
)
def test_predict_refuses(
    model: Path, pictures: Path, tmp_path: Path, options: list[str], text: str
) -> None:
    done = called("predict", model, pictures, "-o", tmp_path / "out", *options)
    refused(done, text)
    assert not (tmp_path / "out").exists()


def test_predict_without_a_picture(model: Path, tmp_path: Path) -> None:
    done = called("predict", model, tmp_path, "-o", tmp_path / "out")
    refused(
        done,
        f"predict: every INPUT must name a picture, got {tmp_path}; give a file, "
        "folder or pattern with .bmp .gif .jfif .jpe .jpeg .jpg .pgm .png .ppm .tif .tiff .webp "
        "files",
    )


def test_predict_max_pixels(model: Path, pictures: Path, tmp_path: Path) -> None:
    arguments = ("predict", model, pictures / "a.jpg", "-o", tmp_path / "out", "--max-pixels")
    done = called(*arguments, 1999)
    assert done.returncode == 1
    assert (
        "a picture has at most 1999 pixels, got 40x50; scale it down or raise max_pixels"
        in done.stderr
    )
    assert called(*arguments, 2000).returncode == 0


def test_predict_beyond_pillows_own_limit(tmp_path: Path) -> None:
    """Pillow warns of or refuses pictures this large, whatever an option says."""
    path = write_model(tmp_path / "m.onnx", make_spec("labels"))
    header = b"P5 30000 30000 255 "
    (tmp_path / "a.ppm").write_bytes(header)
    arguments = ("predict", path, tmp_path / "a.ppm", "-o", tmp_path / "out")
    done = called(*arguments)
    assert done.returncode == 1
    expected = (
        "a picture has at most 89478485 pixels, got 30000x30000; scale it down or raise max_pixels"
    )
    assert expected in done.stderr


@pytest.mark.parametrize("folder", ["camvid/JPEGImages", "voc2012-subset/JPEGImages"])
def test_predict_real_pictures(model: Path, tmp_path: Path, folder: str) -> None:
    source = SHARED / folder
    if not source.exists():
        pytest.skip(f"no real data: {source} is not there")
    files = sorted(source.iterdir())[:8]
    done = called("predict", model, *files, "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    for file in files:
        with Image.open(file) as image, Image.open(tmp_path / f"{file.stem}.png") as written:
            assert (written.mode, written.size) == ("P", image.size)


def test_predict_again_does_nothing(model: Path, pictures: Path, tmp_path: Path) -> None:
    arguments = ("predict", model, pictures, "-o", tmp_path / "out", "--threads", 1)
    assert called(*arguments).returncode == 0
    done = called(*arguments)
    assert done.returncode == 0
    assert done.stdout.startswith("0 done, 0 failed, 2 done before in ")
    done = called(*arguments, "--no-resume")
    assert done.stdout.startswith("2 done, 0 failed in ")


def test_predict_lists(model: Path, pictures: Path, tmp_path: Path) -> None:
    """A list names files, also missing ones; results mirror the tree that they share."""
    text = f"{pictures}/a.jpg\n\n  {pictures}/sub/b.png\n{pictures}/sub/none.png\n"
    (tmp_path / "list.txt").write_text(text)
    missing = (
        f"failed: {pictures}/sub/none.png: must be a picture file, got no file; check the path"
    )
    for number, given in enumerate(
        ([f"@{tmp_path}/list.txt"], ["--list", tmp_path / "list.txt"], ["-"])
    ):
        out = tmp_path / str(number)
        done = fcnkit("predict", model, *given, "-o", out, "--threads", 1, stdin=text)
        assert done.returncode == 1
        assert missing in done.stderr.splitlines()
        assert done.stdout.startswith("2 done, 1 failed in ")
        assert (out / "a.png").exists()
        assert (out / "sub" / "b.png").exists()
    refused(
        called("predict", model, f"@{tmp_path}/no.txt", "-o", tmp_path / "out"),
        f"[Errno 2] No such file or directory: '{tmp_path}/no.txt'",
    )
    refused(
        called("predict", model, "-o", tmp_path / "out"),
        "predict: needs INPUT or --list, got neither; name pictures, folders or a list",
    )


def test_predict_lists_of_two_folders(model: Path, pictures: Path, tmp_path: Path) -> None:
    """Both would write a.png; the second is refused and says what else would do."""
    other, out = tmp_path / "other" / "a.jpg", tmp_path / "out"
    other.parent.mkdir()
    Image.new("RGB", (40, 40)).save(other)
    for path in (pictures / "a.jpg", other):
        (tmp_path / f"{path.parent.name}.txt").write_text(f"{path}\n")
    arguments = ("predict", model, "-o", out, "--threads", 1)
    assert called(*arguments, "--list", tmp_path / "in.txt").returncode == 0
    before = (out / "a.png").read_bytes()
    second = (*arguments, "--list", tmp_path / "other.txt")
    refused(
        called(*second),
        f"{out}/a.png: a result replaces only results of the same picture, got one of "
        f"{pictures}/a.jpg and now {other}; choose another output folder or remove that result, "
        f"or pass --root {tmp_path}",
    )
    assert (out / "a.png").read_bytes() == before
    done = called(*second, "--root", tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.rglob("*.png")) == ["a.png", "a.png"]


def test_the_speed_of_a_resumed_run_is_its_own(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    arguments = ("predict", model, tmp_path / "in", "-o", tmp_path / "out", "--threads", 1)
    for number in range(30):
        Image.new("RGB", (40, 40)).save(tmp_path / "in" / f"{number}.png")
    assert called(*arguments).returncode == 0
    Image.new("RGB", (50, 40)).save(tmp_path / "in" / "31.png")
    (tmp_path / "in" / "32.png").write_text("broken")
    done = called(*arguments, "--json")
    summary = json.loads(done.stdout)
    counts = [summary[name] for name in ("found", "done", "failed", "skipped")]
    assert counts == [32, 1, 1, 30]
    last = [line for line in done.stderr.splitlines() if line.startswith("predict: ")][-1]
    assert last.startswith("predict: 2 of 2 images, ")
    # One picture by this run's time: 60 times less than with what was done before.
    shown = float(last.split(", ")[1].split()[0])
    assert shown < 2 * summary["images_per_second"] + 0.1


def test_predict_npy(model: Path, pictures: Path, tmp_path: Path) -> None:
    done = called("predict", model, pictures, "-o", tmp_path / "out", "--format", "npy")
    assert done.returncode == 0, done.stderr
    labels = np.load(tmp_path / "out" / "sub" / "b.npy")
    assert (labels.shape, labels.dtype) == ((70, 33), np.uint8)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of one program")
def test_stats_count_this_program_alone(model: Path, pictures: Path, tmp_path: Path) -> None:
    held = np.ones(1 << 30, np.uint8)  # by the program that starts fcnkit
    done = fcnkit("predict", model, pictures, "-o", tmp_path / "out", "--stats", "--json")
    assert done.returncode == 0, done.stderr
    assert 20 < json.loads(done.stdout)["peak_memory_mb"] < held.nbytes / 1e6


def test_predict_in_tiles(tmp_path: Path, pictures: Path) -> None:
    model = write_model(tmp_path / "m.onnx", make_spec("logits"))
    arguments = ("predict", model, pictures, "-o", tmp_path / "out", "--threads", 1)
    tiles = ("--tile", "32x32", "--overlap", 8, "--batch", 2)
    done = fcnkit(*arguments, *tiles, "--stats", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["tile"], summary["overlap"]) == ("32x32", 8)
    assert 20 < summary["peak_memory_mb"] < 2000
    refused(
        called(*arguments, "--tile", "32"),
        "--tile: a size is written HxW, got '32'; write 1024x1024",
    )
    refused(
        called(*arguments, "--tile", "33x64"),
        "Segmenter: tile must be a legal shape from 1x32x32 to 16x2048x2048 in steps of 32, "
        "got 33x64; the nearest is 64x64",
    )
    refused(
        called(*arguments, "--tile", "32x64", "--overlap", 32),
        "Segmenter: overlap must be 0..31, less than a tile's side, got 32; "
        "use half the side or less",
    )
    refused(
        called(*arguments, "--tile", "32x64", "--cover", "pad"),
        "Segmenter: tile and overlap need a model with head scores or logits and cover='average', "
        "got head logits and cover='pad'; leave them out, or use cover='average'",
    )


def test_an_interrupted_run_leaves_whole_files_and_a_true_manifest(
    model: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    noise = np.random.default_rng(1).integers(0, 256, (640, 640, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "in" / "000.png")
    for i in range(1, 400):
        (tmp_path / "in" / f"{i:03}.png").symlink_to("000.png")
    out = tmp_path / "out"
    # A test run in the background of a script inherits that Ctrl-C is ignored.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heed}; from fcnkit.cli import main; main()"
    command = [sys.executable, "-c", code, "predict", str(model), str(tmp_path / "in")]
    with subprocess.Popen(
        [*command, "-o", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 600
        while len(list(out.glob("*.png"))) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "Traceback" not in said
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert 3 <= len(lines) < 400
    names = {path.name for path in out.iterdir()}
    assert names == {"manifest.jsonl", *(line["output"] for line in lines)}
    for line in lines:
        with Image.open(out / line["output"]) as written:
            written.load()


# --- info, doctor --------------------------------------------------------------------------------


def test_info_of_onnx(model: Path) -> None:
    done = called("info", model)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(None, 1) for line in done.stdout.splitlines()[1:])
    assert done.stdout.splitlines()[0] == (
        f"{model}: onnx, {model.stat().st_size} bytes, sha256 {sha256_of(model)}"
    )
    expected = {
        "opset": "18",
        "inputs": "image uint8 (N, 32*h, 32*w, 3)",
        "outputs": "labels uint8 (N, 32*h, 32*w)",
        "spec.head": "labels",
        "spec.classes": "background, sky, tree, road",
        "spec.shapes.max": "16x2048x2048",
        "spec.input.multiple": "32",
        "spec.source.parity": "none",
    }
    assert {name: lines[name] for name in expected} == expected
    data: dict[str, Any] = json.loads(called("info", model, "--json").stdout)
    assert data["spec"] == json.loads(make_spec("labels").to_json())


@pytest.mark.parametrize("verb", ["info", "predict"])
def test_what_is_no_longer_known_of_a_model_is_said(
    verb: str, tmp_path: Path, pictures: Path
) -> None:
    """The spec tells of a comparison, and nothing in the file tells that it was of this graph."""
    path = write_model(tmp_path / "m.onnx", make_spec("labels").with_parity("all the same"))
    more = {"info": [path], "predict": [path, pictures, "-o", tmp_path / "out"]}
    done = called(verb, *more[verb])
    assert done.returncode == 0
    assert done.stderr.startswith(
        f"warning: {path}: its graph and spec must be those that were exported to keep the parity, "
        "got a file without their hash; the parity is taken as unknown, compare it again with "
        "fcnkit verify\n"
    )
    assert "all the same" not in done.stdout


def test_info_refuses(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_text("hello, hello, hello")
    refused(
        called("info", path),
        f"{path}: must be a complete ONNX file, got bytes that are not protobuf; "
        "copy the file again or export the model again with fcnkit export onnx",
    )


def test_doctor() -> None:
    done = called("doctor", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["versions"]["numpy"] == np.__version__
    assert found["build"]
    opens = {status["name"]: status["opens"] for status in found["backends"]}
    assert opens["onnxruntime"]
    assert len(opens) == 7
    text = called("doctor").stdout
    assert "onnxruntime           opens: onnxruntime " in text
    for status in found["backends"]:
        assert status["remedy"] in text
    assert set(found["codecs"]) == {"jpeg"}
    for name, library in found["codecs"].items():
        assert f"{name:<8} {library}\n" in text


# --- the entry point -----------------------------------------------------------------------------


def test_a_missing_extra_is_one_line(model: Path, pictures: Path, tmp_path: Path) -> None:
    block = "import sys; sys.modules['onnxruntime'] = None\n"
    arguments = ("predict", model, pictures, "-o", tmp_path / "out", "--backend", "onnxruntime")
    done = fcnkit(*arguments, before=block)
    refused(
        done,
        "open_backend: needs the package onnxruntime, got no such package; "
        "pip install 'fcnkit[cpu]'",
    )


def test_tracebacks_only_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "none.onnx"
    line = f"error: {path}: must be a model file, got no such file; check the path\n"
    assert called("info", path).stderr == line
    for done in (fcnkit("--debug", "info", path), fcnkit("info", path, FCNKIT_DEBUG="1")):
        assert done.returncode == 2
        assert done.stderr.startswith("Traceback (most recent call last):\n")
        assert done.stderr.endswith(line)


def test_help_and_version() -> None:
    done = called("--help")
    assert done.returncode == 0
    for verb in ("data", "train", "eval", "export", "predict", "bench", "info", "doctor"):
        assert verb in done.stdout
    assert called("--version").stdout.startswith("fcnkit 0.")
    usage = called("predict")
    assert usage.returncode == 2
    assert usage.stdout == ""


def test_an_interrupt_is_exit_code_130() -> None:
    stop = (
        "from fcnkit.runtime.artifacts import description as describe\n"
        "def stop(path): raise KeyboardInterrupt\n"
        "describe.describe = stop\n"
    )
    done = fcnkit("info", "m.onnx", before=stop)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


def test_predict_keeps_maps_and_says_how_sure(pictures: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "sure.onnx", make_spec("labels", confidence=True))
    out = tmp_path / "out"
    options = ["--keep", "road,tree", "--map", "sky=road", "--void-below", "0.3", "--json"]
    done = called("predict", model, pictures, "-o", out, *options)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    counts = {"road": 0, "tree": 0, "void": 0}
    sure = 0.0
    for line in lines:
        labels = np.asarray(Image.open(out / line["output"]))
        for number, name in ((0, "road"), (1, "tree"), (255, "void")):
            counts[name] += int((labels == number).sum())
        sure += line["confidence"] * labels.size
    assert summary["pixels"] == {name: count for name, count in counts.items() if count}
    assert sum(counts.values()) == 50 * 40 + 33 * 70
    assert summary["confidence"] == pytest.approx(sure / sum(counts.values()), abs=1e-5)
    gray = called("predict", model, pictures, "-o", tmp_path / "gray", "--format", "confidence")
    assert gray.returncode == 0, gray.stderr
    with Image.open(tmp_path / "gray" / "a.png") as written:
        assert (written.mode, written.size) == ("L", (50, 40))
    text = (
        "fcnkit: --map: must name a class that there is, got 'ship'; the classes are "
        "background (id 0), sky (id 1), tree (id 2), road (id 3), void (id 255)\n"
    )
    wrong = called("predict", model, pictures, "-o", tmp_path / "no", "--map", "ship=road")
    assert wrong.returncode != 0
    assert wrong.stderr.endswith(text.partition(": ")[2])
    assert not (tmp_path / "no").exists()
