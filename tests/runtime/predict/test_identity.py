"""A result never replaces one of another picture, and nothing is passed over without a count."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fcnkit.errors import DataError
from fcnkit.runtime import Segmenter, load
from fcnkit.runtime.predict.folder import MANIFEST, Job, find_jobs, predict_files
from fcnkit.runtime.predict.identity import Origin
from fcnkit.runtime.predict.inputs import search
from fcnkit.runtime.predict.jobs import checked
from fcnkit.runtime.predict.predictor import Predictor
from fcnkit.runtime.predict.staging import Staging
from fcnkit.runtime.predict.stamp import Stamp
from fcnkit.runtime.predict.tree import in_words
from tests.refusal import refusal
from tests.runtime.pictures import manifest_of


def save(path: Path, seed: int = 0) -> Path:
    """Write a picture; those of one ending have one size in bytes where they are BMP."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), np.uint8)
    kind = "PNG" if path.suffix in ("", ".jfif", ".jpe") else None
    Image.fromarray(pixels).save(path, format=kind)
    return path


def set_time(path: Path, seconds: int = 10**9) -> Path:
    os.utime(path, (seconds, seconds))
    return path


def run(segmenter: Segmenter, inputs: list[Any], out: Path, **options: Any) -> dict[str, str]:
    """Status of every picture by the name of its result."""
    root = options.pop("root", None)
    jobs = find_jobs(inputs, out, root=root)
    records = predict_files(segmenter, jobs, out, **{"model_sha256": "ab", **options})
    return {record.output: record.status for record in records}


def written_list(path: Path, *pictures: Path) -> str:
    path.write_text("".join(f"{picture}\n" for picture in pictures), encoding="utf-8")
    return f"@{path}"


def content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


def another(out: Path, before: object, now: object, more: str = "") -> str:
    return (
        f"{out}/x.png: a result replaces only results of the same picture, "
        f"got one of {before} and now {now}; choose another output folder or remove that result"
        f"{more}"
    )


# --- which picture it is -------------------------------------------------------------------------


@pytest.mark.parametrize("resume", [True, False])
def test_lists_of_two_folders_do_not_replace_each_other(
    tmp_path: Path, segmenter: Segmenter, resume: bool
) -> None:
    a, b, out = save(tmp_path / "a/x.png"), save(tmp_path / "b/x.png", 1), tmp_path / "out"
    lists = [written_list(tmp_path / f"{path.parent.name}.txt", path) for path in (a, b)]
    assert run(segmenter, lists[:1], out) == {"x.png": "done"}
    before = content(out)
    with refusal(DataError, another(out, a, b, f", or pass --root {tmp_path}")):
        run(segmenter, lists[1:], out, resume=resume)
    assert content(out) == before
    # Each remedy works.
    assert run(segmenter, lists[1:], out, root=tmp_path) == {"b/x.png": "done"}
    assert run(segmenter, lists[:1], out) == {"x.png": "skipped"}
    assert run(segmenter, lists[1:], tmp_path / "other") == {"x.png": "done"}
    (out / "x.png").unlink()
    assert run(segmenter, lists[1:], out) == {"x.png": "done"}
    with refusal(DataError, another(out, b, a, f", or pass --root {tmp_path}")):
        run(segmenter, lists[:1], out)


def test_one_refusal_stops_the_run_before_it_writes(tmp_path: Path, segmenter: Segmenter) -> None:
    a, b, out = save(tmp_path / "a/x.png"), save(tmp_path / "b/x.png", 1), tmp_path / "out"
    run(segmenter, [a], out)
    save(tmp_path / "b/a.png")
    with refusal(DataError, another(out, a, b, f", or pass --root {tmp_path}")):
        run(segmenter, [tmp_path / "b"], out)
    assert sorted(content(out)) == [MANIFEST, "x.png"]


def test_another_ending_is_another_picture(tmp_path: Path, segmenter: Segmenter) -> None:
    a, b, out = save(tmp_path / "a/x.bmp"), save(tmp_path / "a/x.png", 1), tmp_path / "out"
    run(segmenter, [a], out)
    with refusal(DataError, another(out, a, b)):
        run(segmenter, [b], out)
    a.unlink()  # gone or not
    with refusal(DataError, another(out, a, b)):
        run(segmenter, [b], out)


def moved(tmp_path: Path) -> Path:
    return (tmp_path / "a").rename(tmp_path / "moved")


def copied(tmp_path: Path) -> Path:
    shutil.copytree(tmp_path / "a", tmp_path / "copy")  # with the times
    return tmp_path / "copy"


def linked(tmp_path: Path) -> Path:
    (tmp_path / "link").symlink_to(tmp_path / "a")
    return tmp_path / "link"


def climbed(tmp_path: Path) -> Path:
    (tmp_path / "c").mkdir()
    return tmp_path / "c" / ".." / "a"


@pytest.mark.parametrize("elsewhere", [moved, copied, linked, climbed])
def test_a_folder_mounted_elsewhere_holds_the_same_pictures(
    tmp_path: Path, segmenter: Segmenter, elsewhere: Callable[[Path], Path]
) -> None:
    for name in ("x.png", "deep/y.png"):
        save(tmp_path / "a" / name)
    out = tmp_path / "out"
    run(segmenter, [tmp_path / "a"], out)
    place = elsewhere(tmp_path)
    jobs = find_jobs([place], out)
    records = list(predict_files(segmenter, jobs, out, model_sha256="ab"))
    assert [record.status for record in records] == ["skipped"] * 2
    # What is said is about the pictures of this run.
    assert [record.input for record in records] == [str(job.source) for job in jobs]
    assert set(run(segmenter, [place], out, format="overlay").values()) == {"done"}
    assert set(run(segmenter, [place], out, format="overlay").values()) == {"skipped"}


def test_spellings_of_one_path_are_one_picture(
    tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a/x.png")
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    spellings = ["a/x.png", "./a/x.png", "a/../a/x.png", str(tmp_path / "a/x.png"), "a//x.png"]
    listed = written_list(tmp_path / "list.txt", *map(Path, spellings), Path("a/x.png"))
    assert run(segmenter, [listed], out) == {"x.png": "done"}
    for spelling in spellings:
        assert run(segmenter, [spelling], out) == {"x.png": "skipped"}
    monkeypatch.chdir(tmp_path / "a")
    assert run(segmenter, ["x.png"], out) == {"x.png": "skipped"}
    assert len(manifest_of(out)) == 1


def test_bytes_decide_where_both_pictures_are_there(tmp_path: Path, segmenter: Segmenter) -> None:
    """Pictures from two cameras may have one name, size and time."""
    a = set_time(save(tmp_path / "a/x.bmp"))
    b = set_time(save(tmp_path / "b/x.bmp", 1))
    assert Stamp.of(a) == Stamp.of(b)
    out = tmp_path / "out"
    run(segmenter, [a], out)
    with refusal(DataError, another(out, a, b, f", or pass --root {tmp_path}")):
        run(segmenter, [b], out)


def test_the_same_time_with_another_size_is_another_picture(
    tmp_path: Path, segmenter: Segmenter
) -> None:
    a = set_time(save(tmp_path / "a/x.png"))
    out = tmp_path / "out"
    run(segmenter, [a], out)
    a.rename(tmp_path / "gone.png")
    b = save(tmp_path / "b/x.png")
    b.write_bytes(b.read_bytes() + b"\0")
    set_time(b)
    with refusal(DataError, another(out, a, b, f", or pass --root {tmp_path}")):
        run(segmenter, [b], out)
    # At the first path the same change is a new version of the picture.
    b.rename(a)
    assert run(segmenter, [a], out) == {"x.png": "done"}
    set_time(a, 5)
    assert run(segmenter, [a], out) == {"x.png": "done"}


def test_a_link_to_a_folder_may_come_to_mean_another(tmp_path: Path, segmenter: Segmenter) -> None:
    a, b = save(tmp_path / "a/x.png"), save(tmp_path / "b/x.png", 1)
    now, out = tmp_path / "now", tmp_path / "out"
    now.symlink_to(a.parent)
    run(segmenter, [now], out)
    now.unlink()
    now.symlink_to(b.parent)
    text = another(out, now / "x.png", now / "x.png", f", or pass --root {tmp_path}")
    with refusal(DataError, text):
        run(segmenter, [now], out)


@given(st.data())
def test_the_rule(data: st.DataObject) -> None:
    """Against the rule in other words, for files that are not there."""
    stamps = st.one_of(
        st.none(), st.builds(Stamp, bytes=st.integers(1, 2), mtime_ns=st.integers(1, 2))
    )
    paths = st.sampled_from(["/none/a/x.png", "/none/b/x.png", "/none/b/x.PNG", "/none/b/x"])
    before, now = (
        Origin(input="x", input_path=data.draw(paths), input_stamp=data.draw(stamps))
        for _ in range(2)
    )
    one, other = Path(before.input_path), Path(now.input_path)
    same = before.input_stamp is not None and before.input_stamp == now.input_stamp
    expected = one == other or (same and one.name == other.name)
    assert before.is_same_picture(now) == expected


# --- files that no picture is known of -----------------------------------------------------------


def unknown(path: Path) -> str:
    return (
        f"{path}: a result replaces no file of unknown origin, got a file that no manifest lists; "
        "remove it or choose another folder"
    )


def test_a_file_that_no_run_made_is_not_replaced(tmp_path: Path, segmenter: Segmenter) -> None:
    """A folder of masks, for instance."""
    path, mask = save(tmp_path / "a/x.jpg"), save(tmp_path / "masks/x.png", 1)
    before = mask.read_bytes()
    with refusal(DataError, unknown(mask)):
        run(segmenter, [path], mask.parent)
    assert mask.read_bytes() == before
    mask.unlink()
    mask.symlink_to(tmp_path / "nothing")
    with refusal(DataError, unknown(mask)):
        run(segmenter, [path], mask.parent)
    mask.unlink()
    assert run(segmenter, [path], mask.parent) == {"x.png": "done"}


def test_a_manifest_that_is_gone_or_came_alone(tmp_path: Path, segmenter: Segmenter) -> None:
    a, b, out = save(tmp_path / "a/x.png"), save(tmp_path / "b/x.png", 1), tmp_path / "out"
    run(segmenter, [a], out)
    (tmp_path / "alone").mkdir()
    shutil.copy(out / MANIFEST, tmp_path / "alone")
    assert run(segmenter, [b], tmp_path / "alone") == {"x.png": "done"}
    shutil.copytree(out, tmp_path / "copy")
    assert run(segmenter, [a], tmp_path / "copy") == {"x.png": "skipped"}
    (out / MANIFEST).unlink()
    with refusal(DataError, unknown(out / "x.png")):
        run(segmenter, [b], out)


def test_a_failure_does_not_hide_whose_result_is_there(
    tmp_path: Path, segmenter: Segmenter
) -> None:
    a, b, out = save(tmp_path / "a/x.png"), save(tmp_path / "b/x.png", 1), tmp_path / "out"
    run(segmenter, [a], out)
    good = a.read_bytes()
    a.write_text("broken")
    assert run(segmenter, [a], out) == {"x.png": "failed"}
    with refusal(DataError, another(out, a, b, f", or pass --root {tmp_path}")):
        run(segmenter, [b], out)
    a.write_bytes(good)
    assert run(segmenter, [a], out) == {"x.png": "done"}


def rewrite(out: Path, change: Callable[[dict[str, Any]], None]) -> None:
    lines = manifest_of(out)
    for line in lines:
        change(line)
    (out / MANIFEST).write_text("".join(json.dumps(line) + "\n" for line in lines))


def as_before(line: dict[str, Any]) -> None:
    """What the version before wrote."""
    del line["input_path"]
    line["options"]["overlap"] = 64


def test_an_older_manifest_is_read(tmp_path: Path, model: Path) -> None:
    a, b, out = save(tmp_path / "a/x.png"), save(tmp_path / "b/x.png", 1), tmp_path / "out"
    with load(model, cover="pad", threads=1) as segmenter:
        run(segmenter, [a], out)
        rewrite(out, as_before)
        assert run(segmenter, [a], out) == {"x.png": "skipped"}
        with refusal(DataError, another(out, a, b, f", or pass --root {tmp_path}")):
            run(segmenter, [b], out)
        set_time(a)
        assert run(segmenter, [a], out) == {"x.png": "done"}
        # Still older ones, with nothing but names.
        rewrite(out, lambda line: [line.pop(key) for key in set(line) - {"input", "output"}])
        with refusal(DataError, unknown(out / "x.png")):
            run(segmenter, [a], out)


def test_a_result_that_was_not_listed_is_known_from_the_journal(
    tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ends between a result and its line, as by a kill or a full disk."""
    from fcnkit.runtime.predict.manifest import Manifest

    pictures = [save(tmp_path / f"a/{name}.png", seed) for seed, name in enumerate("xyz")]
    b, out = save(tmp_path / "b/x.png", 9), tmp_path / "out"

    def full(self: Manifest, record: object) -> None:
        raise OSError(28, "No space left on device", MANIFEST)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(Manifest, "append", full)
        run(segmenter, [tmp_path / "a"], out)
    assert (out / "x.png").exists()
    assert manifest_of(out) == []
    text = another(out, pictures[0], b, f", or pass --root {tmp_path}")
    with refusal(DataError, text):
        run(segmenter, [b], out)
    left = len(list(out.glob("*.png")))
    again = list(run(segmenter, [tmp_path / "a"], out).values())
    assert sorted(again) == ["done"] * (3 - left) + ["skipped"] * left
    assert sorted(content(out)) == [MANIFEST, "x.png", "y.png", "z.png"]
    assert sorted(line["output"] for line in manifest_of(out)) == ["x.png", "y.png", "z.png"]
    assert {path.name for path in out.iterdir()} == set(content(out))  # the journal is gone


# --- one run -------------------------------------------------------------------------------------


def test_jobs_of_a_caller_keep_the_rule(tmp_path: Path, segmenter: Segmenter) -> None:
    a, b, out = save(tmp_path / "a/x.png"), save(tmp_path / "b/x.png", 1), tmp_path / "out"
    name = Path("x.png")

    def label(*jobs: Job) -> list[str]:
        return [one.status for one in predict_files(segmenter, jobs, out, model_sha256="ab")]

    text = f"predict: every picture needs its own output name, got {a} and {b} for x.png"
    with refusal(ValueError, f"{text}; pass --root {tmp_path}"):
        label(Job(a, name), Job(b, name))
    for bad in (Path("../x.png"), tmp_path / "x.png"):
        text = f"predict: a result must lie in the output folder, got {bad}; name it without .."
        with refusal(ValueError, text):
            label(Job(a, bad))
    assert label(Job(a, name), Job(a, name)) == ["done"]


def test_names_that_a_file_system_takes_for_one(tmp_path: Path) -> None:
    paths = [tmp_path / "A.png", tmp_path / "a.jpg"]
    jobs = [Job(path, Path(path.name).with_suffix(".png")) for path in paths]
    assert list(checked(jobs, tmp_path / "out")) == jobs
    text = (
        f"predict: every picture needs its own output name, got {paths[0]} and {paths[1]} for "
        "a.png; rename one, or label them into different folders"
    )
    with refusal(ValueError, text):
        list(checked(jobs, tmp_path / "out", fold=True))
    accents = [unicodedata.normalize(form, "ä.png") for form in ("NFC", "NFD")]
    jobs = [Job(tmp_path / name, Path(name)) for name in accents]
    assert list(checked(jobs, tmp_path / "out")) == jobs
    with pytest.raises(ValueError, match="every picture needs its own output name"):
        list(checked(jobs, tmp_path / "out", fold=True))
    with Staging(tmp_path) as staging:
        folds = staging.folds_case()
    (tmp_path / "probe").touch()
    assert folds == (tmp_path / "PROBE").exists()


def test_root_says_where_the_tree_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "in/deep/x.png")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    listed = written_list(tmp_path / "list.txt", path)
    given: list[str | Path] = [path, path.parent, f"{tmp_path}/in/*/*.png", listed]
    for root in (tmp_path, str(tmp_path), tmp_path / "in" / ".."):
        for one in given:
            (job,) = find_jobs([one], tmp_path / "out", root=root)
            assert job.output == Path("in/deep/x.png")
    (job,) = find_jobs([path], tmp_path / "out", root=tmp_path / "link")
    assert job.output == Path("deep/x.png")
    monkeypatch.chdir(tmp_path / "in/deep")
    (job,) = find_jobs(["x.png"], tmp_path / "out", root=tmp_path)
    assert job.output == Path("in/deep/x.png")
    (tmp_path / "other").mkdir()
    rule = f"predict: every picture must lie below --root {tmp_path}/other"
    with refusal(ValueError, f"{rule}, got {path}; give a folder that holds every picture"):
        find_jobs([path], tmp_path / "out", root=tmp_path / "other")
    text = "predict: root must be a folder, got 'none'; give one that holds every picture"
    with refusal(ValueError, text):
        find_jobs([path], tmp_path / "out", root="none")
    with refusal(TypeError, "find_jobs: root must be a str or a Path, got int; pass str(path)"):
        find_jobs([path], tmp_path / "out", root=7)  # type: ignore[arg-type]


# --- what is passed over -------------------------------------------------------------------------


def outputs(inputs: list[Any], out: Path) -> tuple[list[str], str]:
    found = search(inputs, out)
    return [job.output.as_posix() for job in found.jobs], in_words(found.passed_over)


def test_every_file_is_taken_or_counted(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in ("a.jfif", "b.JPE", "c", "deep/d.png"):
        save(folder / name)
    for name in ("notes.txt", "more.TXT", "README", "._a.png", ".DS_Store", ".git/x.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("no picture")
    os.mkfifo(folder / "pipe")
    assert outputs([folder], tmp_path / "out") == (
        ["a.png", "b.png", "c.png", "deep/d.png"],
        ".txt 2, hidden 3, no ending 2",
    )
    hidden = save(folder / ".hidden.png")
    assert outputs([hidden], tmp_path / "out") == ([".hidden.png"], "")
    assert outputs([f"{folder}/.h*"], tmp_path / "out") == ([".hidden.png"], "")
    found = outputs([f"{folder}/*"], tmp_path / "out")
    assert found == (["a.png", "b.png", "c.png"], ".txt 2, folder 1, no ending 2")
    only = tmp_path / "only"
    (only / ".git").mkdir(parents=True)
    (only / "a.txt").touch()
    text = (
        f"predict: every INPUT must name a picture, got {only}, where nothing is taken of .txt 1, "
        "hidden 1; give a file, folder or pattern with .bmp .gif .jfif .jpe .jpeg .jpg .pgm .png "
        ".ppm .tif .tiff .webp files"
    )
    with refusal(ValueError, text):
        search([only], tmp_path / "out")


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_a_file_without_an_ending_is_known_by_its_bytes(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    for number, mode in enumerate(("RGB", "L", "1")):
        path = tmp_path / "in" / f"IMG{number}"
        Image.new(mode, (9, 7)).save(path, format=kind)
    Image.new("RGB", (9, 7)).save(tmp_path / "in" / "end.dat", format=kind)
    names = [f"IMG{number}.png" for number in range(3)]
    assert outputs([tmp_path / "in"], tmp_path / "out") == (names, ".dat 1")


def test_results_of_other_runs_are_no_input(tmp_path: Path, segmenter: Segmenter) -> None:
    folder = tmp_path / "in"
    save(folder / "x.jpg")
    assert run(segmenter, [folder], folder / "one") == {"x.png": "done"}
    expected = (["x.png"], "results of another run 1")
    assert outputs([folder], folder / "two") == expected
    assert outputs([f"{folder}/**/*.*g"], folder / "two") == expected
    assert outputs([folder], folder / "one") == (["x.png"], "")
    assert outputs([folder / "one"], tmp_path / "out") == (["x.png"], ".jsonl 1")
    (folder / "link").symlink_to(tmp_path / "out")
    save(tmp_path / "out/x.png")
    assert outputs([folder], tmp_path / "out") == expected


# --- Predictor -----------------------------------------------------------------------------------


def test_a_predictor_keeps_the_rule(tmp_path: Path, model: Path, segmenter: Segmenter) -> None:
    a, b = save(tmp_path / "a/x.png"), save(tmp_path / "b/x.png", 1)
    c, out = save(tmp_path / "a/x.jpg", 2), tmp_path / "out"

    def label(root: Path, *paths: Path) -> list[str]:
        predictor = Predictor(model=str(model), root=str(root), out=str(out), threads=1)
        return [record["status"] for record in predictor(map(str, paths))]

    assert label(a.parent, a) == ["done"]
    assert label(a.parent, a) == ["done"]  # a share may be done twice
    before = content(out)
    more = f", or pass --root {tmp_path}"
    with refusal(DataError, another(out, a, b, more)):
        label(b.parent, b)
    with refusal(DataError, another(out, a, c)):
        label(a.parent, c)
    with refusal(DataError, another(out, a, b, more)):  # predict knows, too
        run(segmenter, [b], out)
    assert content(out)["x.png"] == before["x.png"]
    assert run(segmenter, [a], out) == {"x.png": "done"}
    assert label(tmp_path, b) == ["done"]
    # And the other way round, where predict was first.
    run(segmenter, [a], tmp_path / "first")
    out = tmp_path / "first"
    with refusal(DataError, another(out, a, b, more)):
        label(b.parent, b)
    assert label(a.parent, a) == ["done"]
    outside = tmp_path / "b"
    text = (
        f"Predictor: every picture must lie below root {outside}, got {a}; "
        "pass a root that holds them all"
    )
    with refusal(ValueError, text):
        label(outside, a)


def test_predictors_at_the_same_time(tmp_path: Path, model: Path) -> None:
    """Two shares hold pictures of one output name: the first to finish has it."""
    for ending in ("png", "jpg"):
        save(tmp_path / f"a/x.{ending}")
    out = tmp_path / "out"
    predictor = Predictor(model=str(model), root=str(tmp_path / "a"), out=str(out), threads=1)
    both = [str(tmp_path / f"a/x.{ending}") for ending in ("png", "jpg")]
    first, second = (iter(predictor(iter([path]))) for path in both)
    assert next(first)["status"] == "done"
    with refusal(DataError, another(out, *both)):
        next(second)


def test_an_origin_goes_through_json(tmp_path: Path) -> None:
    for name in ("x.png", "ä b.png", os.fsdecode(b"caf\xe9.png"), "猫.png"):
        path = save(tmp_path / name)
        origin = Origin.of(path)
        assert Origin.read(json.loads(json.dumps(asdict(origin)))) == origin
        assert origin.input_path == str(path)
    for data in ({}, {"input": 7}, {"input": "a\0b"}, {"input": "\ud800"}):
        assert Origin.read(data) is None or not Origin.read(data).is_same_picture(origin)
