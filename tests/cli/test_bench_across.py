"""``bench across``: other versions of a library, in environments that are thrown away."""

from __future__ import annotations

import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fcnkit.errors import BackendUnavailableError
from fcnkit.runtime.bench import trial_environment
from fcnkit.runtime.bench.across import AcrossRequest, VersionRow, Versions, measure_across
from fcnkit.runtime.bench.trial_environment import make_environment
from tests.cli.shell import fcnkit
from tests.refusal import refusal
from tests.runtime.models import make_spec, write_model

HERE = importlib.metadata.version("onnxruntime")

STAND_IN = """
# The library of the environment below, with a call that is changed.
import sys, time

own, path = __file__.rsplit("onnxruntime", 1)[0].rstrip("/\\\\"), list(sys.path)
del sys.modules["onnxruntime"]
sys.path[:] = [place for place in path if place != own]
import onnxruntime
sys.path[:] = path

class InferenceSession(onnxruntime.InferenceSession):
    def run(self, *arguments, **options):
        outputs = super().run(*arguments, **options)
        CHANGE
        return outputs

onnxruntime.InferenceSession = InferenceSession
onnxruntime.__version__ = "VERSION"
"""


def write_wheel(folder: Path, version: str, code: str, *, package: str = "onnxruntime") -> None:
    """Write a wheel of one module."""
    about = f"{package}-{version}.dist-info"
    files = {
        f"{package}/__init__.py": code,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{about}/RECORD"))
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{package}-{version}-py3-none-any.whl", "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)


def stand_in(version: str, change: str) -> str:
    return STAND_IN.replace("VERSION", version).replace("CHANGE", change)


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip knows."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m.onnx", make_spec("labels"))


def test_a_planted_slowdown_and_other_labels_are_shown(wheels: Path, model: Path) -> None:
    write_wheel(wheels, "98.0", stand_in("98.0", "outputs[0][:, :, :16] ^= 1"))
    write_wheel(wheels, "99.0", stand_in("99.0", "time.sleep(0.2)"))
    done = fcnkit(
        "bench", "across", model, "--versions", "onnxruntime==98.0,99.0", "--shape", "64x64",
        "--runs", 2, "--rounds", 2, "--threads", 1, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        "installing onnxruntime==98.0",
        "installing onnxruntime==99.0",
        "comparing labels",
        "round 1 of 2",
        "round 2 of 2",
    ]
    report = json.loads(done.stdout)
    assert report["format"] == "fcnkit-bench-across-1"
    assert (report["package"], report["backend"]) == ("onnxruntime", "onnxruntime")
    here, other, slow = report["rows"]
    assert [row["requested"] for row in report["rows"]] == ["here", "98.0", "99.0"]
    assert [row["version"] for row in report["rows"]] == [HERE, "98.0", "99.0"]
    assert slow["details"]["library"] == "onnxruntime 99.0"
    assert [len(times) for times in slow["ms"]] == [2, 2]
    assert min(min(times) for times in slow["ms"]) >= 200
    assert slow["p50_ms"] >= 200
    assert (here["ratio"], here["same_labels"]) == (1, 1)
    assert slow["same_labels"] == 1
    assert other["same_labels"] == 0.75
    pairs = zip(slow["ms"], here["ms"], strict=True)
    ratios = [statistics.median(own) / statistics.median(base) for own, base in pairs]
    assert slow["ratio"] == pytest.approx(statistics.median(ratios))
    assert slow["ratio_range"] == pytest.approx([min(ratios), max(ratios)])
    assert slow["verdict"] == ("slower" if min(ratios) > 1.05 else "same")


def test_the_environment_here_stays_as_it_is(wheels: Path, tmp_path: Path) -> None:
    write_wheel(wheels, "99.0", stand_in("99.0", "pass"))
    python = make_environment(tmp_path / "trial", "onnxruntime==99.0")
    code = "import importlib.metadata as m, numpy, onnxruntime\n"
    code += "print(m.version('onnxruntime'), numpy.__file__)"
    told = subprocess.check_output([python, "-c", code], text=True).split()
    assert told == ["99.0", np.__file__]
    assert importlib.metadata.version("onnxruntime") == HERE
    here = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert here[0] == HERE


def test_a_version_that_fails_is_a_row_with_its_reason(wheels: Path, model: Path) -> None:
    write_wheel(wheels, "97.0", "raise RuntimeError('no such processor')")
    write_wheel(wheels, "98.0", "import os; os._exit(7)")
    write_wheel(wheels, "99.0", stand_in("99.0", "pass"))
    done = fcnkit(
        "bench", "across", model, "--versions", "onnxruntime==96.0,97.0,98.0,99.0",
        "--shape", "64x64", "--runs", 1, "--rounds", 1, "--threads", 1,
    )  # fmt: skip
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[3].split()[:3] == ["onnxruntime", "p50", "ms"]
    assert [line.split()[0] for line in lines[4:9]] == ["here", "96.0", "97.0", "98.0", "99.0"]
    assert [line.split()[1] for line in lines[5:8]] == ["failed"] * 3
    assert lines[9:] == [
        "failed: onnxruntime 96.0: onnxruntime==96.0: the version must be one that pip finds for "
        "this Python, got none; the last are 97.0, 98.0, 99.0; choose one of them",
        "failed: onnxruntime 97.0: RuntimeError('no such processor')",
        "failed: onnxruntime 98.0: its process ended with 7",
    ]


def test_without_a_network_it_says_so(wheels: Path, model: Path) -> None:
    done = fcnkit("bench", "across", model, "--versions", "onnxruntime==98.0,99.0")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == (
        "error: onnxruntime==98.0: pip must reach a package index, or a folder of wheels, that has "
        "the package, got none that has it; connect, or set PIP_FIND_LINKS to a folder with its "
        "wheels"
    )


UNREACHABLE = """
WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after \
connection broken by 'NewConnectionError('<HTTPSConnection object>: Failed to establish a new \
connection: [Errno 101] Network is unreachable')': /simple/onnxruntime/
ERROR: Could not find a version that satisfies the requirement onnxruntime==1.2 \
(from versions: none)
ERROR: No matching distribution found for onnxruntime==1.2
"""


@pytest.mark.parametrize(
    ("said", "rest"),
    [
        (
            UNREACHABLE,
            "pip must reach a package index, or a folder of wheels, that has the package, got none "
            "that has it; connect, or set PIP_FIND_LINKS to a folder with its wheels",
        ),
        (
            "/usr/bin/python3: No module named pip\n",
            "pip must be installed to try other versions, got no pip; run python -m ensurepip",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement p==1 (from versions: "
            "1.1, 1.2, 1.3, 1.4, 1.5, 1.6)\nERROR: No matching distribution found for p==1\n",
            "the version must be one that pip finds for this Python, got none; the last are 1.2, "
            "1.3, 1.4, 1.5, 1.6; choose one of them",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left\n",
            "pip must be able to install it, got Could not install packages due to an OSError: "
            "[Errno 28] No space left; try it with pip install in a new environment",
        ),
    ],
)
def test_what_pip_says_in_one_line(said: str, rest: str) -> None:
    with refusal(BackendUnavailableError, f"onnxruntime==1.2: {rest}"):
        raise trial_environment._refused("onnxruntime==1.2", said)


PACKAGES = "onnxruntime, onnxruntime-gpu, openvino, tensorrt, tensorrt-rtx, torch"


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("onnxruntime", "must be PACKAGE==VERSION,..., got 'onnxruntime'; write {}"),
        ("onnxruntime==", "must be PACKAGE==VERSION,..., got 'onnxruntime=='; write {}"),
        ("onnxruntime>=1.2", "must be PACKAGE==VERSION,..., got 'onnxruntime>=1.2'; write {}"),
        (
            "onnxruntime==1.2,,1.3",
            "must be PACKAGE==VERSION,..., got 'onnxruntime==1.2,,1.3'; write {}",
        ),
        ("--pre==1.2", "must be PACKAGE==VERSION,..., got '--pre==1.2'; write {}"),
        (
            "onnxruntime==1.2 -r x",
            "must be PACKAGE==VERSION,..., got 'onnxruntime==1.2 -r x'; write {}",
        ),
        (
            "onnxruntime==1.2,1.2",
            "must name each version once, got onnxruntime==1.2,1.2; leave the second one out",
        ),
        (
            "numpy==1.2",
            f"must name the package of a backend: {PACKAGES}, got numpy; name one of these",
        ),
    ],
)
def test_versions_are_refused(text: str, rest: str) -> None:
    with refusal(ValueError, f"--versions: {rest.format('onnxruntime==1.27,1.31')}"):
        Versions.parse(text)


def test_versions_are_read() -> None:
    found = Versions.parse(" openvino==2025.4,2026.*,2026.1rc1+local ")
    assert found == Versions(package="openvino", versions=("2025.4", "2026.*", "2026.1rc1+local"))


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (
            lambda request: request(runs=0),
            ValueError,
            "bench across: runs: must be 1..1000000, got 0; pass a value from 1 to 1000000",
        ),
        (
            lambda request: request(rounds="3"),
            TypeError,
            "bench across: rounds: must be an integer, got str; pass an int",
        ),
        (
            lambda request: request(backend="openvino"),
            ValueError,
            "--backend: must be one that runs with onnxruntime: onnxruntime, got openvino; leave "
            "it out",
        ),
    ],
)
def test_a_request_is_refused(
    make: Callable[..., object], kind: type[Exception], text: str, tmp_path: Path
) -> None:
    versions = Versions.parse("onnxruntime==1.2")

    def request(**fields: object) -> AcrossRequest:
        return AcrossRequest(model=tmp_path / "m.onnx", versions=versions, **fields)  # type: ignore[arg-type]

    with refusal(kind, text):
        make(request)


@pytest.mark.parametrize(
    ("span", "verdict"),
    [((1.06, 3.0), "slower"), ((1.04, 3.0), "same"), ((0.5, 0.94), "faster"), ((0.5, 1.0), "same")],
)
def test_a_verdict_holds_for_every_round(span: tuple[float, float], verdict: str) -> None:
    assert VersionRow(requested="1.0", version="1.0", ratio_range=span).verdict == verdict


def test_nothing_is_left_of_the_environments(
    wheels: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    request = AcrossRequest(
        model=model, versions=Versions.parse("onnxruntime==99.0"), size=(64, 64), runs=1, rounds=1
    )
    with pytest.raises(BackendUnavailableError):
        measure_across(request)
    assert list(folder.iterdir()) == []
