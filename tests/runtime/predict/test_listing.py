"""Pictures that are found while others are labeled: what is held, checked, and in which order."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fcnkit.errors import DataError
from fcnkit.runtime import Job, Segmenter, find_jobs, predict_files
from fcnkit.runtime.predict import job_stream, jobs
from fcnkit.runtime.predict.inputs import Listing
from fcnkit.runtime.predict.job_stream import Listed
from fcnkit.runtime.predict.jobs import checked
from fcnkit.runtime.predict.lists import ListFile
from fcnkit.runtime.predict.manifest import Record
from tests.refusal import refusal
from tests.runtime.pictures import manifest_of, write_pictures

_PATIENT = settings(suppress_health_check=[HealthCheck.too_slow])
"""However busy the machine is."""


def touched(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def label(segmenter: Segmenter, given: Any, out: Path, **options: Any) -> Iterator[Record]:
    return predict_files(segmenter, given, out, **{"model_sha256": "ab", **options})


# --- what is found -------------------------------------------------------------------------------


def test_one_folder_is_listed_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched(*(tmp_path / "in" / folder / "x.png" for folder in ("", "a", "a/b", "c")))
    listed: list[str] = []
    whole = os.scandir

    def scandir(path: Any) -> Any:
        listed.append(str(path))
        return whole(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = iter(Listing([tmp_path / "in"], tmp_path / "out"))
    assert next(found).output == Path("x.png")
    assert f"{tmp_path}/in" in listed
    assert f"{tmp_path}/in/a/b" not in listed
    assert [job.output.as_posix() for job in found] == ["a/x.png", "a/b/x.png", "c/x.png"]


def test_inputs_that_are_not_there_are_refused_before_any_is_listed(tmp_path: Path) -> None:
    touched(tmp_path / "a.png")
    for name in ("none.png", "none/*.png", "none/**/*.png"):
        with pytest.raises(ValueError, match="every INPUT must name a picture"):
            Listing([tmp_path / "a.png", tmp_path / name], tmp_path / "out")
    with pytest.raises(FileNotFoundError):
        Listing([tmp_path / "a.png", f"@{tmp_path}/none.txt"], tmp_path / "out")


def test_a_list_may_be_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lines are needed twice: for the folder that they share, and for the files."""
    lines = f"{tmp_path}/in/a.png\n{tmp_path}/in/deep/b.png\n".encode()
    read, write = os.pipe()
    os.write(write, lines)
    os.close(write)
    (job, other) = find_jobs([f"@/dev/fd/{read}"], tmp_path / "out")
    os.close(read)
    assert (job.output, other.output) == (Path("a.png"), Path("deep/b.png"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert find_jobs(["-"], tmp_path / "out") == [job, other]
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines.decode()))
    assert find_jobs(["-"], tmp_path / "out") == [job, other]


@_PATIENT
@given(st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=4), min_size=1, max_size=6))
def test_the_folder_that_a_list_shares(paths: list[list[str]]) -> None:
    names = ["/".join(["/top", *parts, "x.png"]) for parts in paths]
    expected = os.path.commonpath([os.path.dirname(name) for name in names])  # noqa: PTH120
    content = "\n".join(names).encode()
    assert ListFile(io.BytesIO(content)).shared_folder() == Path(expected)


@_PATIENT
@given(st.text(min_size=1).filter(lambda name: Path(name).name == name and name[-1] != "."))
def test_results_are_named_as_pathlib_names_them(name: str) -> None:
    from fcnkit.runtime.predict.inputs import _result_name

    assert _result_name(name, ".npy") == Path(name).with_suffix(".npy").name


# --- names ---------------------------------------------------------------------------------------


@_PATIENT
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.text("ab\udce9ä", min_size=1, max_size=2)), max_size=12
    )
)
def test_each_name_has_one_picture(given: list[tuple[int, str]]) -> None:
    """Compared with a dictionary; the names may be any bytes."""
    wanted = [Job(Path("/none") / str(folder) / name, Path(name)) for folder, name in given]
    expected: dict[Path, Job] = {}
    clash = False
    for job in wanted:
        clash |= expected.setdefault(job.output, job) != job
        if clash:
            break
    found: list[Job] = []
    try:
        for job in checked(wanted, Path("out")):
            found.append(job)  # noqa: PERF402 - what came before the error counts
    except ValueError as error:
        assert clash
        assert "every picture needs its own output name" in str(error)
    else:
        assert not clash
    assert found == list(expected.values())


def test_names_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = jobs.sqlite3.connect

    def small(*arguments: Any, **options: Any) -> Any:
        database = whole(*arguments, **options)
        database.execute("PRAGMA max_page_count = 3")
        return database

    monkeypatch.setattr(jobs.sqlite3, "connect", small)
    text = (
        "temporary folder: must have room for the names of the results, got database or disk is "
        "full; set SQLITE_TMPDIR to a folder with more room"
    )
    with refusal(DataError, text):
        list(checked((Job(Path(f"{i:0200}"), Path(f"{i:0200}")) for i in range(99)), tmp_path))


def test_a_picture_in_the_output_folder_is_not_replaced_by_another(tmp_path: Path) -> None:
    out = tmp_path / "out"
    inside, outside = Job(out / "a.png", Path("b.png")), Job(tmp_path / "a.jpg", Path("a.png"))
    text = f"predict: a result must not replace a picture, got {out}/a.png; choose another"
    for order in ([inside, outside], [outside, inside]):
        with refusal(ValueError, f"{text} output folder"):
            list(checked(order, out))
    assert list(checked([inside, inside], out)) == [inside]


# --- runs ----------------------------------------------------------------------------------------


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_stream, "LOOK_AHEAD", 3)
    monkeypatch.setattr(job_stream, "_TOGETHER", 4)


@pytest.mark.usefixtures("small_steps")
def test_results_are_there_before_all_pictures_are_found(
    tmp_path: Path, segmenter: Segmenter
) -> None:
    source = write_pictures(tmp_path / "in", 1)
    asked = 0

    def endless() -> Iterator[Job]:
        nonlocal asked
        while True:
            yield Job(source / f"{asked:05}.png", Path(f"{asked:05}.png"))
            asked += 1

    listed = Listed()
    run = label(segmenter, endless(), tmp_path / "out", listed=listed, workers=1)
    # Those that are not there come first: the model has nothing to do with them.
    [first] = islice((record for record in run if record.status == "done"), 1)
    assert isinstance(run, Generator)
    run.close()
    assert first.output == "00000.png"
    assert 0 < listed.count < 60
    assert not listed.complete
    lines = [line["output"] for line in manifest_of(tmp_path / "out") if line["error"] is None]
    assert lines == ["00000.png"]


@pytest.mark.usefixtures("small_steps")
def test_what_was_begun_is_finished_before_an_error_ends_the_run(
    tmp_path: Path, segmenter: Segmenter
) -> None:
    source, out = write_pictures(tmp_path / "in", 9), tmp_path / "out"
    (source / "00006.jpg").write_bytes((source / "00006.png").read_bytes())
    done: list[str] = []
    text = (
        f"predict: every picture needs its own output name, got {source}/00006.jpg and "
        f"{source}/00006.png for 00006.png; rename one, or label them into different folders"
    )
    with refusal(ValueError, text):
        for record in label(segmenter, Listing([source], out), out):
            done.append(record.output)  # noqa: PERF401 - until the error
    assert done == [f"{number:05}.png" for number in range(7)]
    assert [line["output"] for line in manifest_of(out)] == done
    assert manifest_of(out)[-1]["input"].endswith("00006.jpg")


def test_a_small_run_is_refused_as_a_whole(tmp_path: Path, segmenter: Segmenter) -> None:
    source, out = write_pictures(tmp_path / "in", 9), tmp_path / "out"
    (source / "00006.jpg").write_bytes((source / "00006.png").read_bytes())
    with pytest.raises(ValueError, match="every picture needs its own output name"):
        list(label(segmenter, Listing([source], out), out))
    assert [path.name for path in out.iterdir()] == ["manifest.jsonl"]


@pytest.mark.usefixtures("small_steps")
def test_what_is_done_comes_in_order_with_what_is_not(tmp_path: Path, segmenter: Segmenter) -> None:
    source, out = write_pictures(tmp_path / "in", 30), tmp_path / "out"
    list(label(segmenter, find_jobs([source], out), out))
    again = [0, 11, 12, 29]
    for number in again:
        (out / f"{number:05}.png").unlink()
    listed = Listed()
    records = list(label(segmenter, Listing([source], out), out, listed=listed))
    assert {r.output: r.status for r in records} == {
        f"{number:05}.png": "done" if number in again else "skipped" for number in range(30)
    }
    assert sorted(record.output for record in records) == [f"{n:05}.png" for n in range(30)]
    assert (listed.count, listed.complete) == (30, True)
    assert len(manifest_of(out)) == 34  # what is skipped has its line


@pytest.mark.usefixtures("small_steps")
def test_a_part_counts_its_own_pictures(tmp_path: Path, segmenter: Segmenter) -> None:
    source, counts = write_pictures(tmp_path / "in", 20), []
    for part in ("1/2", "2/2"):
        listed = Listed()
        out = tmp_path / "out"
        records = list(label(segmenter, Listing([source], out), out, listed=listed, part=part))
        assert listed == Listed(len(records), complete=True)
        counts.append(len(records))
    assert sum(counts) == 20


# --- lines of manifests --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "ä ö.png", 'quote".png', "caf\udce9.png"])
def test_lines_are_found_whatever_the_name(tmp_path: Path, segmenter: Segmenter, name: str) -> None:
    source, out = write_pictures(tmp_path / "in", 1), tmp_path / "out"
    (source / "00000.png").rename(source / name)
    [first] = label(segmenter, Listing([source], out), out)
    [second] = label(segmenter, Listing([source], out), out)
    assert (first.status, second.status) == ("done", "skipped")
    assert (second.size, second.pixels, second.time_ns) == (first.size, first.pixels, first.time_ns)
    assert (second.milliseconds, second.output_stamp) == (first.milliseconds, first.output_stamp)


def test_lines_in_other_words_say_the_same(tmp_path: Path, segmenter: Segmenter) -> None:
    """Of a version that ordered its fields in another way, or put blanks elsewhere."""
    source, out = write_pictures(tmp_path / "in", 3), tmp_path / "out"
    list(label(segmenter, Listing([source], out), out))
    lines = manifest_of(out)
    manifest = out / "manifest.jsonl"
    for written in (
        [json.dumps(dict(reversed(line.items()))) for line in lines],
        [json.dumps(line, separators=(",", ":")) for line in lines],
        [json.dumps(line | {"new": {"status": "failed", "output": "x"}}) for line in lines],
    ):
        manifest.write_text("\n".join(written) + "\n")
        records = list(label(segmenter, Listing([source], out), out))
        assert [record.status for record in records] == ["skipped"] * 3


def test_a_folder_that_moved_is_done(tmp_path: Path, segmenter: Segmenter) -> None:
    source, out = write_pictures(tmp_path / "in", 3), tmp_path / "out"
    list(label(segmenter, Listing([source], out), out))
    moved = source.rename(tmp_path / "moved")
    records = list(label(segmenter, Listing([moved], out), out))
    assert [record.status for record in records] == ["skipped"] * 3
    assert [record.input for record in records] == [f"{moved}/{n:05}.png" for n in range(3)]


def test_a_line_that_is_wrong_behind_its_beginning_proves_nothing(
    tmp_path: Path, segmenter: Segmenter
) -> None:
    source, out = write_pictures(tmp_path / "in", 1), tmp_path / "out"
    list(label(segmenter, Listing([source], out), out))
    manifest = out / "manifest.jsonl"
    whole = manifest.read_bytes()
    for damaged in (
        whole.replace(b'"milliseconds": ', b'"milliseconds": 1.2.'),
        whole.replace(b'"pixels": {', b'"pixels": {,'),
        whole.replace(b'"error": null', b'"error": nul'),
    ):
        assert damaged != whole
        manifest.write_bytes(damaged)
        [record] = label(segmenter, Listing([source], out), out)
        assert record.status == "done"
