"""The runner of the GPU stages: whatever a stage does, the report is whole and the rest runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import machine
from benchmarks.gpu.__main__ import STAGES
from benchmarks.gpu.context import Context, Settings
from benchmarks.gpu.runner import MOST_BYTES, MOST_FINDINGS, MOST_OUTPUT, Report, Stage, run_stages
from tests.conftest import ROOT
from tests.processes import is_alive
from tests.runtime.fake_cuda import FakeCuda

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stages are ended through /proc")
PLENTY = 8 << 30


def strict(text: str) -> Any:
    """Read JSON as the standard has it, without NaN."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def run(
    folder: Path, *names: str, seconds: float = 30, budget: float = 60, memory: int = PLENTY
) -> dict[str, Any]:
    """Run fake stages, and the good one after them, through the real runner."""
    report = Report(folder / "gpu.json", {"format": 1})
    target = "tests.benchmarks.gpu_stages"
    stages = [Stage(name=n, target=f"{target}:{n}", seconds=seconds) for n in (*names, "good")]
    settings = Settings(dry=True, folder=str(folder))
    run_stages(stages, report, settings, budget=budget, memory=memory)
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    found: dict[str, Any] = strict((folder / "gpu.json").read_text(encoding="utf-8"))
    assert found == report.content
    assert found["state"] == "finished"
    good = found["stages"]["good"]
    assert good["state"] == "done"
    assert list(good["findings"]) == ["before", "fails", "after", "not finite"]
    assert good["findings"]["fails"]["error"] == "ZeroDivisionError: division by zero"
    assert good["findings"]["after"] == {"images_per_second": 2.5}
    assert good["findings"]["not finite"] == {"error": "not a finite number: nan"}
    stage: dict[str, Any] = found["stages"][names[0]]
    return stage


@pytest.mark.parametrize(
    ("name", "state", "reason"),
    [
        ("crash", "crashed", "it was ended by SIGSEGV"),
        ("fail", "failed", "it ended with exit code 1"),
        ("leave", "failed", "it ended with exit code 7"),
    ],
)
def test_a_stage_that_ends_badly_costs_only_itself(
    name: str, state: str, reason: str, tmp_path: Path
) -> None:
    stage = run(tmp_path, name)
    assert (stage["state"], stage["reason"]) == (state, reason)
    assert stage["findings"] == {"before": 1}
    if name == "fail":
        assert stage["output"].endswith("RuntimeError: a stage's own error\n")


def test_a_stage_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    stage = run(tmp_path, "hang", seconds=3)
    assert (stage["state"], stage["reason"]) == ("timeout", "it ran for 3 s, its limit")
    assert not is_alive(stage["findings"]["child"])


def test_a_child_that_is_left_behind_is_ended(tmp_path: Path) -> None:
    stage = run(tmp_path, "leave_a_child")
    assert stage["state"] == "done"
    assert not is_alive(stage["findings"]["child"])


@pytest.mark.parametrize("name", ["fill_memory", "fill_memory_in_children"])
def test_a_stage_that_fills_its_memory_is_ended(name: str, tmp_path: Path) -> None:
    stage = run(tmp_path, name, memory=256 << 20)
    assert stage["state"] == "memory"
    assert stage["reason"].endswith("MiB; its limit is 256 MiB")
    assert stage["findings"] == {"before": 1}


def test_garbage_is_counted_and_dropped(tmp_path: Path) -> None:
    stage = run(tmp_path, "garbage")
    assert stage["state"] == "done"
    assert stage["findings"] == {"after": "\ud800 \x00 ok"}
    assert stage["not_findings"] == 10 + len(range(31, 1000, 10))  # one long line is read in two
    assert len(stage["output"]) == MOST_OUTPUT


def test_findings_are_bounded(tmp_path: Path) -> None:
    stage = run(tmp_path, "many_findings")
    assert len(stage["findings"]) == MOST_FINDINGS
    assert stage["not_findings"] == 3000 - MOST_FINDINGS


def test_the_size_of_findings_is_bounded(tmp_path: Path) -> None:
    stage = run(tmp_path, "large_findings")
    assert len(stage["findings"]) == MOST_BYTES // 100_040
    assert stage["not_findings"] == 200 - len(stage["findings"])


def test_a_stage_without_time_left_is_skipped(tmp_path: Path) -> None:
    report = Report(tmp_path / "gpu.json", {})
    target = "tests.benchmarks.gpu_stages"
    stages = [Stage(name=n, target=f"{target}:{n}", seconds=60) for n in ("hang", "good")]
    settings = Settings(dry=True, folder=str(tmp_path))
    run_stages(stages, report, settings, budget=6, memory=PLENTY)
    first, second = report.content["stages"].values()
    assert first["state"] == "timeout"
    assert first["limit_seconds"] == pytest.approx(6, abs=0.2)
    assert second == {"state": "skipped", "reason": "0 s of the budget of 6 s were left"}
    assert strict((tmp_path / "gpu.json").read_text()) == report.content


STEADY = """
import sys
from pathlib import Path
from benchmarks.gpu.context import Settings
from benchmarks.gpu.runner import Report, Stage, run_stages
folder = Path(sys.argv[1])
stage = Stage(name="steady", target="tests.benchmarks.gpu_stages:steady", seconds=60)
settings = Settings(dry=True, folder=str(folder))
run_stages([stage], Report(folder / "gpu.json", {}), settings, budget=60, memory=8 << 30)
"""


@pytest.mark.parametrize("wait", [0.0, 0.013, 0.05, 0.21])
def test_the_report_is_whole_after_a_kill(wait: float, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", STEADY, str(tmp_path)], cwd=ROOT)
    report = tmp_path / "gpu.json"
    deadline = time.monotonic() + 60
    while not (report.exists() and b"finding 1" in report.read_bytes()):
        assert time.monotonic() < deadline, "the stage said nothing"
        strict(report.read_text() if report.exists() else "{}")
        time.sleep(0.005)
    time.sleep(wait)
    process.kill()
    process.wait()
    found = strict(report.read_text(encoding="utf-8"))
    assert found["stages"]["steady"]["findings"]
    assert found["state"] == "running"
    stage = int((tmp_path / "pid").read_text())
    while is_alive(stage):  # it ends with the runner
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_sigterm_ends_the_stage_and_is_reported(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry-run", "--stages", "models"]
    process = subprocess.Popen(
        [*command, "-o", str(out), "--work", str(tmp_path / "work")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (out.exists() and strict(out.read_text())["stages"]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate()
    assert process.returncode == 1
    found = strict(out.read_text(encoding="utf-8"))
    assert found["state"] == "stopped"
    assert found["stages"]["models"]["state"] == "stopped"
    assert printed.startswith("models         stopped (the run was stopped): ")


def refused(*words: str) -> str:
    command = [sys.executable, "-m", "benchmarks.gpu", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    return done.stderr


def test_what_would_lose_findings_is_refused(tmp_path: Path) -> None:
    there = tmp_path / "there.json"
    there.write_text("{}")
    assert refused("--dry-run", "-o", str(there)) == (
        f"error: -o: must not exist yet, got {there}; name another file, or delete it\n"
    )
    assert there.read_text() == "{}"
    nowhere = tmp_path / "nowhere" / "gpu.json"
    assert refused("--dry-run", "-o", str(nowhere)) == (
        f"error: -o: its folder must exist, got {nowhere.parent}; create it first\n"
    )
    for budget in ("0", "-1", "nan", "inf"):
        assert refused("--dry-run", f"--budget={budget}", "-o", str(tmp_path / "new.json")) == (
            f"error: --budget: must be a number of seconds above 0, got {float(budget)!r}; "
            "give another, such as 800\n"
        )
    names = ", ".join(stage.name for stage in STAGES)
    assert refused("--stages", "copies,,x", "-o", str(tmp_path / "new.json")) == (
        f"error: --stages: must be names out of {names}, got ''; leave it out or correct it\n"
    )


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="there is a GPU")  # noqa: PTH110
def test_without_a_gpu_a_real_run_is_refused(tmp_path: Path) -> None:
    assert refused("-o", str(tmp_path / "gpu.json")) == (
        "error: benchmarks.gpu: an NVIDIA driver must be installed, got no libcuda.so.1; "
        "run it on a machine with a GPU, or try it here with --dry-run\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_the_limits_fit_into_the_budget() -> None:
    assert sum(stage.seconds for stage in STAGES) <= 800


def test_copies_and_waiting_are_measured_on_any_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "COPIED", 8192)
    monkeypatch.setattr(machine, "open_driver", lambda extra: FakeCuda())
    read, write = os.pipe()
    context = Context(Settings(dry=False, folder=str(tmp_path)), write)
    machine.copies(context)
    os.close(write)
    with os.fdopen(read) as pipe:
        found = {item["key"]: item["value"] for item in map(json.loads, pipe)}
    assert {key: set(value) for key, value in found.items()} == {
        "host to device": {"gb_per_second"},
        "device to host": {"gb_per_second"},
        "wait for an event": {"median_us", "p99_us"},
        "wait for a stream": {"median_us", "p99_us"},
        "speed of another thread while one waits": {"share"},
    }


def test_a_dry_run_of_all_stages(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry-run", "--budget", "600"]
    done = subprocess.run(
        [*command, "-o", str(out)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    found = strict(out.read_text(encoding="utf-8"))
    assert found["state"] == "finished", done.stdout
    assert found["dry_run"] is True
    names = {stage.name for stage in STAGES} - {"copies"}
    assert {name: stage["state"] for name, stage in found["stages"].items()} == dict.fromkeys(
        names, "done"
    ), done.stdout
    errors = [
        (name, key, value["error"])
        for name, stage in found["stages"].items()
        for key, value in stage["findings"].items()
        if isinstance(value, dict) and "error" in value
    ]
    assert errors == []
    sessions = found["stages"]["onnxruntime"]["findings"]
    assert sessions["labels fp32, agreement"]["same_labels"] == 1
    assert sessions["labels fp32 2x64x96"]["stream_images_per_second"] > 0
    assert found["stages"]["tests"]["findings"]["pytest -m gpu"]["failed"] == []
