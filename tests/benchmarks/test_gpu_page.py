"""The tables of a GPU run: what is written into which page, and what is refused."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu_page import BEGIN, END, PAGES
from tests.conftest import ROOT

REPORT: dict[str, Any] = {
    "format": 1,
    "dry_run": False,
    "started": "2026-12-01T10:00:00+00:00",
    "cores": 16,
    "gpus": [{"name": "NVIDIA H200", "driver_version": "580.1"}],
    "state": "finished",
    "stages": {
        "environment": {"state": "done", "findings": {"packages": {"torch": "2.11.0", "x": None}}},
        "copies": {
            "state": "done",
            "findings": {
                "host to device": {"gb_per_second": 50.126},
                "wait for an event": {"median_us": 25.0, "p99_us": 40.0},
                "speed of another thread while one waits": {"share": 0.914},
            },
        },
        "tests": {
            "state": "done",
            "findings": {"pytest -m gpu": {"passed": 9, "failed": ["a::b|c"], "skipped": ["d"]}},
        },
        "models": {"state": "done", "findings": {"labels fp32": {"seconds": 3.0}}},
        "onnxruntime": {
            "state": "crashed",
            "reason": "it was ended by SIGSEGV",
            "findings": {
                "labels fp32, agreement": {"same_labels": 0.99996},
                "labels fp32 8x384x480": {
                    "shape": "8x384x480",
                    "call_ms": 3.5,
                    "network_images_per_second": 3012.3,
                    "stream_images_per_second": 2500.7,
                },
                "labels fp32, operators": {"CPUExecutionProvider": {"Shape": 2, "Gather": 1}},
                "labels fp16, open": {"error": "E: bad | <!-- gpu:end -->\nline", "trace": "t"},
            },
        },
        "pytorch": {
            "state": "done",
            "findings": {
                "tf32 1x384x480": {
                    "shape": "1x384x480",
                    "compute": "tf32",
                    "call_ms": 0.2,
                    "network_images_per_second": 5000.0,
                }
            },
        },
        "files": {
            "state": "timeout",
            "reason": "it ran for 130 s, its limit",
            "findings": {
                "labels fp32, 4 processes x 4 workers, batch 8": {
                    "processes": 4,
                    "workers": 4,
                    "batch": 8,
                    "images_per_second": 5321.4,
                    "cpu_ms_per_image": 1.7,
                }
            },
        },
        "jpeg": {
            "state": "done",
            "findings": {
                "nvJPEG, batch 32": {"images_per_second": 20000.0},
                "nvJPEG against Pillow": {"largest": 12, "mean": 0.5},
            },
        },
        "training": {
            "state": "done",
            "findings": {
                "batch 32": {
                    "shape": "32x320x480",
                    "median_seconds": {"ours": 0.05, "chapter": 0.15},
                    "ours_faster_than": {"chapter": 3.0},
                }
            },
        },
    },
}
RTX: dict[str, Any] = {
    **REPORT,
    "started": "2026-12-02T10:00:00+00:00",
    "stages": {
        "tensorrt_rtx": {
            "state": "done",
            "findings": {
                "library": "1.7.1.116",
                "labels fp16, validity": "INVALID, diagnostics 2",
                "labels fp16, first opening": {"open_seconds": 0.65, "first_call_seconds": 0.1},
                "labels fp16 defaults, agreement": {"same_labels": 0.999},
                "labels fp16 defaults 1x384x480": {
                    "shape": "1x384x480",
                    "call_ms": 0.4,
                    "network_images_per_second": 2600.0,
                    "stream_images_per_second": 2700.0,
                },
            },
        }
    },
}
BENCHMARKS = """Measured 2026-12-01 and 2026-12-02 on NVIDIA H200 580.1, 16 cores, torch 2.11.0. FCN-32s on ResNet-18, 21 classes, untrained.

`pytest -m gpu`: 9 passed, 1 failed, 1 skipped.

The network alone:

| library | network | NxHxW | call ms | network alone, images/s | stream, images/s | labels as on the CPU |
|---|---|---|---|---|---|---|
| ONNX Runtime | labels fp32 | 8x384x480 | 3.500 | 3,012 | 2,501 | 99.996 % |
| PyTorch, CUDA graph | tf32 | 1x384x480 | 0.200 | 5,000 | missing | missing |

Operators that stay on the CPU:

- labels fp32: Gather 1, Shape 2

Files to files, JPEG images of 480x360 to palette PNGs:

| network | processes | workers each | batch | images/s | CPU ms per image |
|---|---|---|---|---|---|
| labels fp32 | 4 | 4 | 8 | 5,321 | 1.70 |

Decoding alone:

| decoder | images/s |
|---|---|
| nvJPEG, batch 32 | 20,000 |

nvJPEG's values differ from Pillow's by up to 12 of 255, 0.500 on average.

Copies and waiting:

| copy or wait | measured |
|---|---|
| host to device | 50.13 GB/s |
| wait for an event | 25.00 µs |
| speed of another thread while one waits | 0.91 of its speed alone |

A training step of FCN-32s on ResNet-18:

| NxHxW | step | ms | times ours |
|---|---|---|---|
| 32x320x480 | ours | 50.0 | 1.00 |
| 32x320x480 | chapter | 150.0 | 3.00 |

What failed:

- onnxruntime: crashed, it was ended by SIGSEGV
- onnxruntime, labels fp16, open: E: bad \\| &lt;!-- gpu:end --> line
- files: timeout, it ran for 130 s, its limit
- test a::b\\|c failed"""  # noqa: E501
ENGINES = """Measured 2026-12-01 and 2026-12-02 on NVIDIA H200 580.1, 16 cores, torch 2.11.0. FCN-32s on ResNet-18, 21 classes, untrained.

TensorRT-RTX 1.7.1.116. labels fp16, first opening: 0.65 s, first call 0.10 s. labels fp16, validity: INVALID, diagnostics 2.

| network | NxHxW | call ms | network alone, images/s | stream, images/s | labels as on the CPU |
|---|---|---|---|---|---|
| labels fp16 defaults | 1x384x480 | 0.400 | 2,600 | 2,700 | 99.900 % |

Nothing failed."""  # noqa: E501
README = """Measured 2026-12-01 and 2026-12-02 on NVIDIA H200 580.1, 16 cores, torch 2.11.0. FCN-32s on ResNet-18, 21 classes, untrained.

| at 384x480, best batch | images/s |
|---|---|
| ONNX Runtime, network alone, fp32 | 3,012 |
| ONNX Runtime, network alone, fp16 | missing |
| TensorRT-RTX, network alone, fp32 | missing |
| TensorRT-RTX, network alone, fp16 | 2,600 |
| ONNX Runtime, files to files, fp32 | 5,321 |
| ONNX Runtime, files to files, fp16 | missing |

All: [benchmarks](docs/benchmarks.md), [engines](docs/engines.md)."""  # noqa: E501


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the three pages, and the reports beside them."""
    (tmp_path / "docs").mkdir()
    for name in PAGES:
        (tmp_path / name).write_text(f"# {name}\n\n{BEGIN}\nold\n{END}\n\nafter\n", "utf-8")
    for name, report in (("a", REPORT), ("b", RTX)):
        (tmp_path / f"{name}.json").write_text(json.dumps(report), "utf-8")
    return tmp_path


def page(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu_page", "--root", str(checkout)]
    return subprocess.run([*command, *words], cwd=ROOT, capture_output=True, text=True, check=False)


def contents(checkout: Path) -> dict[str, str]:
    return {name: (checkout / name).read_text("utf-8") for name in PAGES}


def test_the_tables_stand_between_the_markers(checkout: Path) -> None:
    reports = str(checkout / "a.json"), str(checkout / "b.json")
    done = page(checkout, *reports)
    assert done.returncode == 0, done.stderr
    wanted = {"docs/benchmarks.md": BENCHMARKS, "docs/engines.md": ENGINES, "README.md": README}
    assert contents(checkout) == {
        name: f"# {name}\n\n{BEGIN}\n{text}\n{END}\n\nafter\n" for name, text in wanted.items()
    }
    before = contents(checkout)
    assert page(checkout, *reports).returncode == 0
    assert contents(checkout) == before  # again, and nothing piles up


def test_a_later_report_takes_the_place_of_a_stage(checkout: Path) -> None:
    later = copy.deepcopy(RTX)
    later["stages"] = {"files": {"state": "done", "findings": {}}}
    (checkout / "c.json").write_text(json.dumps(later), "utf-8")
    done = page(checkout, "--stdout", str(checkout / "a.json"), str(checkout / "c.json"))
    assert "- files: timeout" not in done.stdout
    assert "Files to files" not in done.stdout
    assert "- tensorrt_rtx: not run" in done.stdout


def refused(checkout: Path, *words: str) -> str:
    before = contents(checkout)
    done = page(checkout, *words)
    assert done.returncode == 2
    assert contents(checkout) == before
    return done.stderr


def test_a_dry_run_changes_no_page(checkout: Path) -> None:
    dry = checkout / "dry.json"
    dry.write_text(json.dumps(REPORT | {"dry_run": True}), "utf-8")
    assert refused(checkout, str(dry)) == (
        "error: gpu_page: pages take numbers of a GPU only, got a dry run; "
        "show its tables with --stdout\n"
    )
    before = contents(checkout)
    done = page(checkout, str(dry), "--stdout")
    assert done.returncode == 0
    assert "ONNX Runtime | labels fp32" in done.stdout
    assert contents(checkout) == before


@pytest.mark.parametrize(
    "text", ["", f"{BEGIN}\n", f"{END}\n{BEGIN}\n", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}"]
)
def test_a_page_without_its_markers_stops_before_any_is_written(text: str, checkout: Path) -> None:
    (checkout / "README.md").write_text(text, "utf-8")
    assert refused(checkout, str(checkout / "a.json")) == (
        f"error: {checkout / 'README.md'}: must hold {BEGIN} and {END} once each, in this order, "
        "got other markers; put them where tables belong\n"
    )


def test_what_is_no_report_is_refused(checkout: Path) -> None:
    broken = checkout / "broken.json"
    broken.write_text("{", "utf-8")
    assert refused(checkout, str(broken)).startswith(
        f"error: {broken}: must be JSON, got Expecting"
    )
    for text in ("[]", "{}", '{"format": 2, "stages": {}}', '{"format": 1, "stages": []}'):
        broken.write_text(text, "utf-8")
        assert refused(checkout, str(broken)) == (
            f"error: {broken}: must be a report of benchmarks.gpu, format 1, got another file; "
            "name the file that -o made\n"
        )


def test_reports_of_two_machines_are_refused(checkout: Path) -> None:
    other = checkout / "other.json"
    gpus = [{"name": "NVIDIA L4", "driver_version": "580.1"}]
    other.write_text(json.dumps(RTX | {"gpus": gpus}), "utf-8")
    first = checkout / "a.json"
    assert refused(checkout, str(first), str(other)) == (
        f"error: gpu_page: reports must be of one machine, got NVIDIA H200 580.1, 16 cores "
        f"({first}) and NVIDIA L4 580.1, 16 cores ({other}); write them one after the other\n"
    )


@pytest.mark.parametrize("name", ["README.md", "docs/benchmarks.md", "docs/engines.md"])
def test_the_pages_have_a_place_for_the_tables(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    assert text.index(BEGIN) < text.index(END)
