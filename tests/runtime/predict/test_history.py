"""What several manifests say, against dictionaries; and the summary of a folder."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcnkit.errors import DataError
from fcnkit.runtime.predict import history as history_module
from fcnkit.runtime.predict.history import History
from fcnkit.runtime.predict.summary import last_lines, summarize
from tests.refusal import refusal

LINES = st.lists(
    st.tuples(
        st.integers(0, 2),  # manifest
        st.sampled_from(["a.png", "b.png", "c.png", "dd.png"]),
        st.sampled_from(["done", "failed"]),
        st.one_of(st.none(), st.integers(0, 5)),  # time
    ),
    max_size=30,
)


@pytest.mark.parametrize("collide", [False, True])
@given(LINES)
def test_what_manifests_say(
    tmp_path_factory: pytest.TempPathFactory, collide: bool, lines: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("history")
    texts = [b"", b"", b""]
    for number, output, status, time in lines:
        line = {"output": output, "status": status, "time_ns": time, "at": len(texts[number])}
        texts[number] += json.dumps(line).encode() + b"\n"
    paths = [folder / f"{number}" for number in range(3)]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text)
    of_file = [[json.loads(line) for line in text.splitlines()] for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        if collide:
            patch.setattr(history_module, "hash", len, raising=False)
        with History(paths) as history:
            for output in ("a.png", "b.png", "c.png", "dd.png", "e.png"):
                expected = []
                for number, found in enumerate(of_file):
                    about = [line for line in found if line["output"] == output]
                    made = [line for line in about if line["status"] == "done"]
                    if made:
                        expected.append((number, made[-1], about[-1] is made[-1]))
                told = sorted(history.told(output), key=lambda one: one.number)
                assert [(one.number, one.line, one.is_last) for one in told] == expected
            last: dict[str, Any] = {}
            for number, found in enumerate(of_file):
                for output, line in {line["output"]: line for line in found}.items():
                    when = (line["time_ns"] or 0, number)
                    last[output] = max(last.get(output, ((-1, 0), {})), (when, line), key=when_of)
            expected_lines = [line for _, line in last.values()]
            assert sorted(map(str, history.last_lines())) == sorted(map(str, expected_lines))
            shared = Counter(
                output for found in of_file for output in {line["output"] for line in found}
            )
            several = {output for output, count in shared.items() if count > 1}
            assert several <= set(history.shared()) <= set(shared)


def test_more_manifests_than_a_process_may_open(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits of processes are not on Windows")
    for number in range(1, 301):
        write(tmp_path, f"manifest.{number}-of-300.jsonl", {"output": f"{number}.png"})
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (250, before[1]))
    try:
        assert summarize(tmp_path).done == 300
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def when_of(pair: tuple[tuple[int, int], Any]) -> tuple[int, int]:
    return pair[0]


def write(out: Path, name: str, *lines: dict[str, Any] | str) -> None:
    """Write a manifest and the results that it lists as done."""
    out.mkdir(exist_ok=True)
    texts = []
    for line in lines:
        if isinstance(line, str):
            texts.append(line)
            continue
        full = {"status": "done", "input": f"/in/{Path(line['output']).stem}.jpg", **line}
        texts.append(json.dumps({"input_path": full["input"], **full}))
        if full["status"] == "done":
            (out / line["output"]).write_bytes(b"x")
    (out / name).write_text("".join(f"{text}\n" for text in texts))


def test_a_summary_counts_last_lines(tmp_path: Path) -> None:
    failed = {"status": "failed", "error": "/in/b.jpg: must be a picture, got text; replace it"}
    write(
        tmp_path,
        "manifest.1-of-2.jsonl",
        {"output": "a.png", **failed},
        {"output": "a.png"},
        {"output": "b.png", **failed, "time_ns": 9},
        {"output": "c.png"},
    )
    write(
        tmp_path,
        "manifest.jsonl",
        {"output": "b.png", "time_ns": 8},
        {"output": "c.png", "status": "failed", "error": "out of luck"},
        {"output": "d.png"},
        '{"torn',
    )
    (tmp_path / "d.png").unlink()
    found = summarize(tmp_path)
    assert found.manifests == ["manifest.jsonl", "manifest.1-of-2.jsonl"]
    # Without times, the part's line about c.png counts: its manifest comes later.
    assert (found.done, found.failed) == (2, {"must be a picture": 1})
    assert (found.missing, found.duplicates) == (["d.png"], [])
    assert found.torn == {"manifest.jsonl": 1}
    assert [line["output"] for line in last_lines(tmp_path)] == ["d.png", "a.png", "b.png", "c.png"]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (
            ("manifest.1-of-2.jsonl", {"output": "a.png"}),
            ("manifest.2-of-2.jsonl", {"output": "a.png"}),
            ["a.png is listed as done by parts 1/2 and 2/2"],
        ),
        (
            ("manifest.jsonl", {"output": "a.png"}),
            ("manifest.2-of-2.jsonl", {"output": "a.png", "input": "/in/b.jpg"}),
            ["a.png is listed as the result of /in/a.jpg and /in/b.jpg"],
        ),
        (
            ("manifest.1-of-4.jsonl", {"output": "a.png"}),
            ("manifest.2-of-2.jsonl", {"output": "b.png", "input": "/in/a.jpg"}),
            ["a.png and b.png are results of /in/a.jpg"],
        ),
        (  # done again, and in another format
            ("manifest.1-of-4.jsonl", {"output": "a.png"}),
            ("manifest.2-of-2.jsonl", {"output": "a.png"}),
            [],
        ),
        (
            ("manifest.1-of-4.jsonl", {"output": "a.png"}),
            ("manifest.2-of-2.jsonl", {"output": "a.npy"}),
            [],
        ),
    ],
)
def test_duplicates(tmp_path: Path, first: Any, second: Any, expected: list[str]) -> None:
    write(tmp_path, *first)
    write(tmp_path, *second)
    assert summarize(tmp_path).duplicates == expected


def test_where_there_is_no_manifest(tmp_path: Path) -> None:
    remedy = "name the folder given to -o"
    text = f"{tmp_path}: must hold a manifest of fcnkit predict, got none; {remedy}"
    with refusal(DataError, text):
        summarize(tmp_path)
    gone = tmp_path / "gone"
    text = f"{gone}: must be an output folder of fcnkit predict, got no folder; {remedy}"
    with refusal(DataError, text):
        list(last_lines(gone))
