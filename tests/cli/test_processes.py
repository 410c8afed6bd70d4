"""``fcnkit predict`` with several processes: signals, the summary, and what it refuses."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.shell import called, fcnkit, refused
from tests.runtime.models import make_spec, write_model
from tests.runtime.pictures import manifest_of, write_pictures

COUNT = 300


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "m.onnx", make_spec("labels"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("data") / "in", COUNT, side=200)


@pytest.fixture(scope="module")
def whole(model: Path, source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole")
    assert called("predict", model, source, "-o", out, "--threads", 1).returncode == 0
    return results(out)


def results(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*.png")}


def start(model: Path, source: Path, out: Path) -> subprocess.Popen[str]:
    code = "from fcnkit.cli import main; main()"
    arguments = ["predict", model, source, "-o", out, "--processes", 2, "--threads", 1, "--json"]
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def in_session(session: int) -> list[int]:
    """Processes of a session that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(path.parent.name))
    return found


def wait_until(true: Callable[[], bool]) -> bool:
    end = time.monotonic() + 120
    while not true() and time.monotonic() < end:
        time.sleep(0.005)
    return true()


def begun(process: subprocess.Popen[str], out: Path) -> bool:
    """Wait until some results are listed."""
    manifest = out / "manifest.jsonl"
    return wait_until(
        lambda: (
            process.poll() is not None
            or (manifest.exists() and manifest.read_bytes().count(b"\n") > 5)
        )
    )


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@needs_proc
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_processes_and_the_manifest_is_complete(
    model: Path, source: Path, whole: dict[str, bytes], tmp_path: Path, sent: signal.Signals
) -> None:
    process = start(model, source, tmp_path)
    assert begun(process, tmp_path)
    # As a terminal and as Slurm do: every process of the group gets it.
    os.killpg(process.pid, sent)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 128 + sent, stderr
    assert "Traceback" not in stderr
    assert wait_until(lambda: not in_session(process.pid))
    lines = {line["output"]: line["status"] for line in manifest_of(tmp_path)}
    assert lines == dict.fromkeys(results(tmp_path), "done")
    assert 5 < len(lines) < COUNT
    summary = json.loads(stdout)
    assert summary["done"] == len(lines)
    assert not list(tmp_path.glob(".fcnkit-partial*"))
    again = called("predict", model, source, "-o", tmp_path, "--processes", 2, "--json")
    counts = json.loads(again.stdout)
    assert (counts["done"], counts["skipped"]) == (COUNT - len(lines), len(lines))
    assert results(tmp_path) == whole


@needs_proc
def test_no_worker_outlives_a_killed_command(
    model: Path, source: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    process = start(model, source, tmp_path)
    assert begun(process, tmp_path)
    assert len(in_session(process.pid)) >= 3
    process.kill()
    process.communicate(timeout=120)
    assert wait_until(lambda: not in_session(process.pid))
    assert called("predict", model, source, "-o", tmp_path, "--processes", 2).returncode == 0
    assert results(tmp_path) == whole
    outputs = [line["output"] for line in manifest_of(tmp_path)]
    assert len(outputs) == len(set(outputs)) == COUNT


def test_the_summary_says_what_each_process_did(model: Path, tmp_path: Path) -> None:
    source = write_pictures(tmp_path / "in", 20)
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{path}\n" for path in sorted(source.iterdir())))
    arguments = ("predict", model, "--list", listed, "--processes", 2, "--threads", 1)
    done = fcnkit(*arguments, "-o", tmp_path / "out", "--json")
    assert (done.returncode, "images, " in done.stderr) == (0, True), done.stderr
    summary = json.loads(done.stdout)
    assert (summary["done"], summary["threads"], summary["backend"]) == (20, 1, "onnxruntime")
    assert sum(process["answered"] for process in summary["processes"]) == 20
    assert all(process["peak_memory_mb"] > 10 for process in summary["processes"])
    done = fcnkit(*arguments, "-o", tmp_path / "out", "--no-resume")
    assert done.stdout.startswith("20 done, 0 failed in ")
    assert ", 2 worker processes of at most " in done.stdout


def test_what_does_not_fit_is_refused(model: Path, source: Path, tmp_path: Path) -> None:
    def predict(*options: object) -> subprocess.CompletedProcess[str]:
        return called("predict", model, source, "-o", tmp_path / "out", *options)

    refused(
        predict("--processes", 2, "--device", "0,1"),
        "--processes: goes without --device, which says how many, "
        "got --processes 2 --device 0,1; leave one of them out",
    )
    for text in ("", "a", "0,", "-1", "0,,1", "1000"):
        refused(
            predict("--device", text),
            f"--device: is the number of a GPU, or several, got {text!r}; write 0 or 0,1,2,3",
        )
    refused(predict("--device", "0,0"), "--device: names each GPU once, got 0,0; write 0,1,2,3")
    refused(
        predict("--processes", 0),
        "Workers: processes: must be 1..256, got 0; pass a value from 1 to 256",
    )
    for device in ("0", "0,1"):
        refused(
            predict("--backend", "onnxruntime", "--device", device),
            "open_backend: backend onnxruntime runs on the CPU and takes no device, got 0; "
            "leave it out",
        )
    refused(
        predict("--ray-gpus", 0.5),
        "--ray-gpus: goes with --ray, got --ray-gpus 0.5 alone; "
        "pass --device for the GPUs of this machine",
    )
    for ray in (["--ray"], ["--ray", "auto"]):  # without an address, auto
        refused(
            predict("--device", "0", *ray),
            "--device: goes without --ray, which chooses GPUs, got --device 0 --ray auto; "
            "pass --ray-gpus 1",
        )
    camera = ("predict", model, "0", "-o", tmp_path / "out")
    refused(
        called(*camera, "--processes", 2),
        "--processes: goes with files, not with a camera, got --processes 2; leave it out",
    )
    refused(
        called(*camera, "--device", "0,1"),
        "--device: goes with files, not with a camera, got --device 0,1; leave it out",
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="has a GPU")
def test_a_device_needs_a_gpu(model: Path, source: Path, tmp_path: Path) -> None:
    for device in ("0", "0,1"):
        refused(
            called("predict", model, source, "-o", tmp_path / "out", "--device", device),
            "open_backend: a device is the number of an NVIDIA GPU, "
            "got 0 on a machine without a driver; see fcnkit doctor",
        )
