"""Shares of a run: who labels what, who may run beside whom, and what other manifests say."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcnkit.errors import DataError
from fcnkit.runtime import Segmenter, find_jobs, predict_files
from fcnkit.runtime.predict.manifest import Record
from fcnkit.runtime.predict.parts import Part, found_in, manifest_name, partial_name
from tests.refusal import refusal
from tests.runtime.pictures import write_pictures

COUNT = 12
WAIT = "wait for the other run, or choose another folder"


def begin(
    segmenter: Segmenter, source: Path | list[Path], out: Path, part: str | None = None
) -> Iterator[Record]:
    sources = source if isinstance(source, list) else [source]
    return predict_files(
        segmenter, find_jobs(sources, out), out, model_sha256="ab", part=part, workers=1
    )


def run(
    segmenter: Segmenter, source: Path | list[Path], out: Path, part: str | None = None
) -> dict[str, str]:
    """Status of every picture by the name of its result."""
    return {record.output: record.status for record in begin(segmenter, source, out, part)}


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- which pictures ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "3", "0/8", "9/8", "1/0", "01/8", "-1/8", "1/8/2", "1 /8", "¹/8"]
)
def test_a_part_is_two_numbers(text: str) -> None:
    got = f"got {text!r}; pass 1/8 to 8/8 for eight parts"
    with refusal(ValueError, f"predict: --part must be I/N with I from 1 to N, {got}"):
        Part.parse(text)


def test_a_part_is_a_str(tmp_path: Path, segmenter: Segmenter) -> None:
    text = (
        "predict: --part must be I/N with I from 1 to N, got int; pass 1/8 to 8/8 for eight parts"
    )
    with refusal(TypeError, text):
        predict_files(segmenter, [], tmp_path, model_sha256="ab", part=3)  # type: ignore[arg-type]


@given(st.text(min_size=1).filter(lambda name: Path(name).name == name != ".."), st.integers(1, 50))
def test_every_result_belongs_to_one_part_in_every_format(name: str, count: int) -> None:
    parts = [Part(number=number, count=count) for number in range(1, count + 1)]
    output = Path("sub", f"{name}.png")
    (owner,) = [part for part in parts if part.holds(output)]
    assert owner.holds(output.with_suffix(".npy"))


def test_what_a_part_has_never_changes() -> None:
    """Runs of other versions, machines and days go on with these shares."""
    outputs = ["00000.png", "a/b.png", "a/ä.png", "a/x.y.png", "z.npy"]
    of_seven = [
        next(n for n in range(1, 8) if Part(number=n, count=7).holds(Path(o))) for o in outputs
    ]
    assert of_seven == [4, 6, 5, 5, 4]
    assert Part(number=of_seven[2], count=7).holds(Path(unicodedata.normalize("NFD", "a/ä.png")))


def test_parts_together_are_the_whole(tmp_path: Path, segmenter: Segmenter) -> None:
    source, out = write_pictures(tmp_path / "in", COUNT), tmp_path / "out"
    (source / "00003.png").write_text("broken")
    whole = run(segmenter, source, tmp_path / "whole")
    shares = [run(segmenter, source, out, f"{number}/3") for number in (1, 2, 3)]
    assert {k: v for share in shares for k, v in share.items()} == whole
    assert sum(map(len, shares)) == COUNT
    results = names(tmp_path / "whole") - {"manifest.jsonl"}
    assert all(
        (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes() for name in results
    )
    manifests = [f"manifest.{number}-of-3.jsonl" for number in (1, 2, 3)]
    assert names(out) == {*results, *manifests, ".fcnkit-parts"}
    for share, manifest in zip(shares, manifests, strict=True):
        assert {line["output"] for line in lines_of(out / manifest)} == set(share)


def test_names_of_all_parts_are_checked(tmp_path: Path, segmenter: Segmenter) -> None:
    source, out = write_pictures(tmp_path / "in", COUNT), tmp_path / "out"
    (source / "00005.jpg").write_bytes((source / "00005.png").read_bytes())
    jobs = [
        *find_jobs([source / "00005.jpg"], out),
        *find_jobs([source / f"{number:05}.png" for number in range(COUNT)], out),
    ]
    text = (
        f"predict: every picture needs its own output name, got {source}/00005.jpg and "
        f"{source}/00005.png for 00005.png; rename one, or label them into different folders"
    )
    for number in (1, 2, 3):
        with refusal(ValueError, text):
            list(predict_files(segmenter, jobs, out, model_sha256="ab", part=f"{number}/3"))
    assert not list(out.glob("*.png"))


# --- other manifests of the folder ---------------------------------------------------------------


def test_another_count_goes_on(tmp_path: Path, segmenter: Segmenter) -> None:
    source, out = write_pictures(tmp_path / "in", COUNT), tmp_path / "out"
    first = run(segmenter, source, out, "2/3")
    assert 0 < len(first) < COUNT
    for parts in (["1/2", "2/2"], [None], ["1/1"]):
        again: dict[str, str] = {}
        for part in parts:
            again |= run(segmenter, source, out, part)
        done_before = first if parts == ["1/2", "2/2"] else again
        assert {name for name, status in again.items() if status == "skipped"} == set(done_before)
        assert len(again) == COUNT
    assert len([line for path in found_in(out).readable for line in lines_of(path)]) == COUNT


def test_a_failure_in_one_manifest_is_done_again_in_another(
    tmp_path: Path, segmenter: Segmenter
) -> None:
    source, out = write_pictures(tmp_path / "in", 2), tmp_path / "out"
    good = (source / "00001.png").read_bytes()
    (source / "00001.png").write_text("broken")
    assert run(segmenter, source, out) == {"00000.png": "done", "00001.png": "failed"}
    (source / "00001.png").write_bytes(good)
    assert run(segmenter, source, out, "1/1") == {"00000.png": "skipped", "00001.png": "done"}
    assert run(segmenter, source, out) == {"00000.png": "skipped", "00001.png": "skipped"}


@pytest.mark.parametrize(("before", "now"), [(None, "1/1"), ("1/1", None), ("1/1", "1/2")])
def test_no_result_of_another_picture_is_replaced(
    tmp_path: Path, segmenter: Segmenter, before: str | None, now: str | None
) -> None:
    a, b = write_pictures(tmp_path / "a", 1), write_pictures(tmp_path / "b", 1, side=50)
    out = tmp_path / "out"
    run(segmenter, a, out, before)
    if now == "1/2" and not Part.parse(now).holds(Path("00000.png")):
        now = "2/2"
    text = (
        f"{out}/00000.png: a result replaces only results of the same picture, got one of "
        f"{a}/00000.png and now {b}/00000.png; choose another output folder or remove that result, "
        f"or pass --root {tmp_path}"
    )
    with refusal(DataError, text):
        run(segmenter, b, out, now)
    # Where the result was removed, the name is free; the manifest with the later line is right.
    (out / "00000.png").unlink()
    assert run(segmenter, b, out, now) == {"00000.png": "done"}
    assert run(segmenter, b, out, now) == {"00000.png": "skipped"}
    assert run(segmenter, b, out, before) == {"00000.png": "skipped"}


def test_results_of_parts_are_no_input(tmp_path: Path, segmenter: Segmenter) -> None:
    source = write_pictures(tmp_path / "in", 2)
    run(segmenter, source, source / "labels", "1/1")
    found = find_jobs([source], tmp_path / "elsewhere")
    assert [job.output.name for job in found] == ["00000.png", "00001.png"]


def test_a_line_torn_in_another_manifest_blocks_nothing(
    tmp_path: Path, segmenter: Segmenter
) -> None:
    source, out = write_pictures(tmp_path / "in", 1), tmp_path / "out"
    run(segmenter, source, out, "1/1")
    path = out / "manifest.1-of-1.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    assert run(segmenter, source, out) == {"00000.png": "done"}
    assert run(segmenter, source, out, "1/1") == {"00000.png": "skipped"}


# --- at once -------------------------------------------------------------------------------------


def test_who_runs_beside_whom(tmp_path: Path, segmenter: Segmenter) -> None:
    source, out = write_pictures(tmp_path / "in", 40), tmp_path / "out"
    running = begin(segmenter, source, out, "1/2")
    next(running)
    refused = {
        "1/2": f"{out}/manifest.1-of-2.jsonl: one run at a time labels a part, "
        f"got a manifest that another run holds; {WAIT}",
        "1/3": f"{out}: only parts of one count share an output folder, "
        f"got part 1/3 beside part 1/2; {WAIT}",
        None: f"{out}: only parts of one count share an output folder, "
        f"got a run without --part beside part 1/2; {WAIT}",
    }
    for part, text in refused.items():
        with refusal(DataError, text):
            run(segmenter, source, out, part)
    second = run(segmenter, source, out, "2/2")
    assert set(second.values()) == {"done"}
    assert 1 + len(list(running)) + len(second) == 40
    assert set(run(segmenter, source, out).values()) == {"skipped"}


def test_no_part_runs_beside_a_run_without_parts(tmp_path: Path, segmenter: Segmenter) -> None:
    source, out = write_pictures(tmp_path / "in", 40), tmp_path / "out"
    running = begin(segmenter, source, out)
    next(running)
    text = (
        f"{out}: only parts of one count share an output folder, "
        f"got part 1/3 beside a run without --part; {WAIT}"
    )
    with refusal(DataError, text):
        run(segmenter, source, out, "1/3")
    assert len(list(running)) == 39


def leave_as_killed(segmenter: Segmenter, source: Path, out: Path, part: str | None) -> list[str]:
    """Leave a folder as a kill does between a result and its line; return the unlisted results."""
    run(segmenter, source, out, part)
    share = None if part is None else Part.parse(part)
    manifest, partial = out / manifest_name(share), out / partial_name(share)
    lines = manifest.read_bytes().splitlines(keepends=True)
    partial.mkdir()
    (partial / "manifest.jsonl").write_bytes(b"\n" + b"\n".join(lines))
    (partial / "17").write_text("half a result")
    manifest.write_bytes(b"".join(lines[:1]))
    return [json.loads(line)["output"] for line in lines[1:]]


@pytest.mark.parametrize("killed", [None, "1/2", "1/1"])
@pytest.mark.parametrize("next_one", [None, "1/1"])
def test_the_next_run_takes_over_what_a_killed_one_left(
    tmp_path: Path, segmenter: Segmenter, killed: str | None, next_one: str | None
) -> None:
    source, out = write_pictures(tmp_path / "in", COUNT), tmp_path / "out"
    unlisted = leave_as_killed(segmenter, source, out, killed)
    assert unlisted
    found = run(segmenter, source, out, next_one)
    assert {found[name] for name in unlisted} == {"skipped"}
    share = None if killed is None else Part.parse(killed)
    listed = [line["output"] for line in lines_of(out / manifest_name(share))]
    assert set(unlisted) < set(listed)
    assert len(listed) == len(set(listed))
    assert not (out / partial_name(share)).exists()


def test_what_a_running_part_writes_stays(tmp_path: Path, segmenter: Segmenter) -> None:
    source, out = write_pictures(tmp_path / "in", 40), tmp_path / "out"
    running = begin(segmenter, source, out, "1/2")
    next(running)
    partial = out / partial_name(Part.parse("1/2"))
    assert partial.is_dir()
    run(segmenter, source, out, "2/2")
    assert partial.is_dir()
    assert {record.status for record in running} == {"done"}
    assert not partial.exists()


def test_a_manifest_of_another_part_is_a_regular_file(tmp_path: Path, segmenter: Segmenter) -> None:
    source, out = write_pictures(tmp_path / "in", 1), tmp_path / "out"
    out.mkdir()
    link = out / "manifest.1-of-4.jsonl"
    link.symlink_to(source / "00000.png")
    text = (
        f"{link}: must be a separate file, got a link or no regular file; remove it, or choose "
        "another folder"
    )
    for part in (None, "1/4", "2/4", "1/2"):
        with refusal(DataError, text):
            run(segmenter, source, out, part)
