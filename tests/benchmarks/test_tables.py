"""Tables that benchmarks write into the documentation, and the CSV files beside the pages."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from benchmarks import kernels_page
from benchmarks.markdown import Place, csv_text, put_between, table, write_rows

DOCS = Path(__file__).parents[2] / "docs"


def test_a_table_has_a_line_per_row() -> None:
    assert table(("a", "b"), [("1", "2")]) == "| a | b |\n|---|---|\n| 1 | 2 |"


def test_csv_quotes_what_holds_a_comma() -> None:
    assert csv_text([{"a": "1", "b": "x, y"}, {"a": "2", "b": ""}]) == 'a,b\n1,"x, y"\n2,\n'


def test_only_the_text_between_the_lines_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- x -->\nold\n\nold\n<!-- end -->\nafter\n<!-- end -->\n")
    put_between(page, "<!-- x -->", "<!-- end -->", "new")
    assert page.read_text() == "before\n<!-- x -->\nnew\n<!-- end -->\nafter\n<!-- end -->\n"


@pytest.mark.parametrize("text", ["no marks\n", "<!-- x -->\n", "<!-- end -->\n<!-- x -->\n"])
def test_a_page_without_the_lines_stays_as_it_is(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(SystemExit) as caught:
        put_between(page, "<!-- x -->", "<!-- end -->", "new")
    assert caught.value.code == f"{page} must hold the lines <!-- x --> and <!-- end -->"
    assert page.read_text() == text


def test_rows_go_beside_the_page_and_their_summary_into_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, rows = tmp_path / "page.md", [{"a": "1", "b": "2"}]
    page.write_text("<!-- x -->\n<!-- end -->\n")
    place = Place("rows.csv", begin="<!-- x -->", end="<!-- end -->")
    write_rows(rows, "- 1 row", page, place)
    assert (tmp_path / "rows.csv").read_text() == "a,b\n1,2\n"
    assert page.read_text() == "<!-- x -->\n- 1 row\n<!-- end -->\n"
    assert capsys.readouterr().out == ""
    write_rows(rows, "- 1 row", None, place)
    assert capsys.readouterr().out == "a,b\n1,2\n\n- 1 row\n"


def summary_and_rows(page: str, file: str) -> tuple[str, list[dict[str, str]]]:
    [summary] = re.findall(
        r"<!-- summary: .* -->\n(.*?)\n<!-- end of summary -->",
        (DOCS / page).read_text("utf-8"),
        re.DOTALL,
    )
    with (DOCS / file).open(encoding="utf-8", newline="") as lines:
        return summary, list(csv.DictReader(lines))


def test_the_summary_of_the_exports_is_that_of_the_file() -> None:
    summary, rows = summary_and_rows("export.md", "export.csv")
    assert f"- {len(rows)} rows: {len({row['network'] for row in rows})} networks," in summary
    for precision in {row["precision"] for row in rows}:
        shares = [row["label_agreement_percent"] for row in rows if row["precision"] == precision]
        assert f"{precision} {min(shares, key=float)} %" in summary
    assert f"Out of tolerance: {[row['within_tolerance'] for row in rows].count('no')} " in summary
    refused = sum("refused" in row["tensorrt_rtx"] for row in rows)
    assert f"Refused by TensorRT-RTX: {refused} rows." in summary


def test_the_summary_of_the_short_trainings_is_that_of_the_file() -> None:
    summary, rows = summary_and_rows("results.md", "one-epoch.csv")
    assert f"- {len(rows)} networks," in summary
    for column in ("millions_of_parameters", "mean_iou", "pixel_accuracy"):
        extremes = [choose(rows, key=lambda row: float(row[column])) for choose in (min, max)]
        ends = [f"{row[column]} (`{row['network']}`)" for row in extremes]
        assert " to ".join(ends) in summary


KERNEL_TABLES = ("kernels", "peers", "gains")


def part(text: str, name: str) -> str:
    """What a page has between two of its lines."""
    [found] = re.findall(rf"<!-- {name} -->\n(.*?)\n<!-- end -->", text, re.DOTALL)
    return found


def test_the_kernels_are_compared_with_every_peer_of_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def row(kernel: str, size: str, ratio: float) -> dict[str, object]:
        peers = {name: {"ratio": ratio} for name in kernels_page.PEERS[kernel]}
        measured = {"seconds": 0.001, "pixels_per_second": ratio * 1e6, "limit": "copy"}
        return {"kernel": kernel, "size": size, "limit_fraction": 0.5, "peers": peers, **measured}

    paths = [tmp_path / f"{name}.json" for name in ("avx512", "avx2", "scalar")]
    for path, ratio in zip(paths, (4.0, 2.0, 1.0), strict=True):
        sizes = ("375x500", "1080x1920", "2160x3840")
        kernels = [row(kernel, size, ratio) for kernel in kernels_page.PEERS for size in sizes]
        path.write_text(json.dumps({"kernels": kernels}))
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- {name} -->\nold\n<!-- end -->\n" for name in KERNEL_TABLES))
    monkeypatch.setattr("benchmarks.kernels_page.PAGE", page)
    monkeypatch.setattr("sys.argv", ["kernels_page", *map(str, paths)])
    kernels_page.main()
    text = page.read_text()
    assert "old" not in text
    first, second, third = (part(text, name) for name in KERNEL_TABLES)
    assert "| decode | 375x500 | 1 | 4 | 0.50 copy | cv2.LUT 4.0, palette[labels] 4.0 |" in first
    assert [line for line in second.splitlines() if line.startswith("| decode |")] == [
        "| decode | cv2.LUT | 375x500 | 4.0 | 2.0 | 1.0 |",
        "| decode | cv2.LUT | 2160x3840 | 4.0 | 2.0 | 1.0 |",
        "| decode | palette[labels] | 375x500 | 4.0 | 2.0 | 1.0 |",
        "| decode | palette[labels] | 1080x1920 | 4.0 | 2.0 | 1.0 |",
        "| decode | palette[labels] | 2160x3840 | 4.0 | 2.0 | 1.0 |",
    ]
    assert "| decode | 375x500 | 1 | 2 (2.0x) | 4 (4.0x) |" in third


def first_cells(text: str) -> list[str]:
    """The first cell of each row of a table."""
    return re.findall(r"^\| ([\w ]+) \| ", text, re.MULTILINE)[1:]


def test_the_page_has_the_peers_that_the_command_writes() -> None:
    text = (DOCS / "kernels.md").read_text("utf-8")
    kernels, peers, gains = (part(text, name) for name in KERNEL_TABLES)
    measured = set(first_cells(kernels))
    assert set(first_cells(gains)) == measured
    found: dict[str, set[str]] = {}
    for kernel, peer in re.findall(r"^\| ([\w ]+) \| ([^|]+) \| \d+x\d+ ", peers, re.MULTILINE):
        found.setdefault(kernel, set()).add(peer)
    listed = {name: set(peers) for name, peers in kernels_page.PEERS.items() if name in measured}
    assert found == listed
    assert "decode" in listed


def test_the_pipeline_has_a_row_per_backend() -> None:
    pipeline = pytest.importorskip("benchmarks.pipeline", reason="PyTorch is not installed")
    rates = {
        "chapter pad": [10.0, 10.0],
        "chapter average": [5.0, 5.0],
        "openvino bf16 alone pad": [50.0, 50.0],
        "openvino bf16 fcnkit pad labels": [46.0, 46.0],
        "openvino bf16 fcnkit pad color": [44.0, 46.0],
        "openvino bf16 alone average": [21.0, 21.0],
        "openvino bf16 fcnkit average color": [20.0, 20.0],
    }
    found = {
        "pictures": 101,
        "size": "360x480",
        "threads": 2,
        "other_cores": 0.02,
        "images_per_second": rates,
        "call_at_320x480": {"openvino bf16": {"difference": 0.5, "ratio": 1.04}},
    }
    first, _, head, _, row = pipeline.page_table(found).splitlines()
    assert first == "101 images of 360x480, 2 threads; other programs used 0.02 cores meanwhile."
    assert head.count("|") == row.count("|")
    assert row == (
        "| OpenVINO, bf16 | 45.0 | 90.0 % | 4.50x | 5.00x | 20.0 | 4.00x | 0.50 ms (4.0 %) |"
    )
    text = pipeline.PAGE.read_text("utf-8")
    assert text.count("<!-- pipeline -->\n") == 1
    assert head in text
