"""The table of networks: which rows of a report it takes, and which networks it marks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import choose

FPN, LRASPP, DDR = "fpn-resnet18", "lraspp-mobilenet_v3_large", "ddrnet23slim"


def row(network: str, backend: str, ms: float, score: float, **changes: Any) -> dict[str, Any]:
    return {
        "status": "done",
        "architecture": network,
        "backend": backend,
        "compute": "auto",
        "precision": "fp32",
        "bytes": 20_000_000,
        "end_to_end": {"p50_ms": ms},
        "images_per_second": 2000 / ms,
        "score": {"kind": "mean_iou", "value": score},
        **changes,
    }


def report(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"rows": list(rows), "shape": "360x480", "data": {"pictures": 101, "split": "val"}}


MEASURED = report(
    row(FPN, "onnxruntime", 50.0, 0.71),
    row(FPN, "onnxruntime", 40.0, 0.7094),  # a faster head
    row(FPN, "openvino", 20.0, 0.7081, compute="bf16"),
    row(LRASPP, "onnxruntime", 15.0, 0.62, precision="int8", bytes=4_300_000),
    row(LRASPP, "openvino", 14.0, 0.61, precision="int8", bytes=4_300_000),
    row(LRASPP, "openvino", 12.0, 0.61, precision="int8", bytes=4_300_000, compute="bf16"),
    row(DDR, "onnxruntime", 45.0, 0.7),
    row(DDR, "openvino", 21.0, 0.7081, compute="bf16"),
    row(DDR, "torch", 5.0, 0.9),
    {**row(DDR, "onnxruntime", 1.0, 0.9), "score": {"kind": "agreement", "value": 1.0}},
    {"status": "failed", "architecture": DDR, "backend": "openvino"},
)


def test_a_line_has_each_backends_fastest_way() -> None:
    lines = choose.lines_of(MEASURED)
    assert [(line.network, line.precision, line.ms, line.mean_iou) for line in lines] == [
        (LRASPP, "int8", 12.0, 0.61),
        (FPN, "bf16", 20.0, 0.7081),
        (DDR, "bf16", 21.0, 0.7081),
        (FPN, "fp32", 40.0, 0.7094),
        (DDR, "fp32", 45.0, 0.7),
    ]
    assert set(lines[0].timed) == {"onnxruntime", "openvino"}


def test_networks_that_another_beats_everywhere_are_marked() -> None:
    assert choose.beaten(choose.lines_of(MEASURED)) == {DDR}
    # As fast and as accurate is no reason, nor is another backend's time.
    same = report(row(FPN, "openvino", 20.0, 0.7), row(DDR, "openvino", 20.0, 0.7))
    assert choose.beaten(choose.lines_of(same)) == set()
    other = report(row(FPN, "openvino", 20.0, 0.7), row(DDR, "onnxruntime", 30.0, 0.7))
    assert choose.beaten(choose.lines_of(other)) == set()


def test_the_page_gets_table_and_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, source = tmp_path / "choose.md", tmp_path / "report.json"
    page.write_text(f"before\n{choose.PLACE.begin}\n{choose.PLACE.end}\nafter\n")
    source.write_text(json.dumps(MEASURED))
    monkeypatch.setattr("sys.argv", ["choose", str(source), "--out", str(page)])
    choose.main()
    text = page.read_text()
    assert text.startswith(
        f"before\n{choose.PLACE.begin}\n![Mean IoU against milliseconds](choose.png)\n\n"
        "| network | precision | mean IoU | parameters | GMAC | MB | ONNX Runtime, ms (images/s) | "
        "OpenVINO, ms (images/s) |\n|---|---|---|---|---|---|---|---|\n"
        f"| `{LRASPP}` | int8 | 0.610 | 3.3 M | 1.5 | 4.3 | 15.0 (133) | 12.0 (167) |\n"
        f"| `{FPN}` | bf16 | 0.708 | 11.6 M | 8.1 | 20.0 | - | 20.0 (100) |\n"
        f"| `{DDR}`, nobody should choose it | bf16 | 0.708 | 5.7 M | 3.3 | 20.0 | - | 21.0 (95) |"
    )
    assert text.endswith("All lines: [choose.csv](choose.csv).\n<!-- end of table -->\nafter\n")
    assert len((tmp_path / "choose.csv").read_text().splitlines()) == 6
    assert (tmp_path / "choose.png").stat().st_size > 1000
    assert capsys.readouterr().out == ""
    source.write_text(json.dumps(report(MEASURED["rows"][-1])))
    with pytest.raises(SystemExit) as caught:
        choose.main()
    assert caught.value.code == (
        f"{source} must have rows that were scored by mean IoU, got none; "
        "give bench matrix labeled DATA"
    )
