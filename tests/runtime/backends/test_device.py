"""The number of a GPU: which option it becomes, and who refuses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fcnkit.errors import BackendUnavailableError
from fcnkit.runtime import BackendRequest
from fcnkit.runtime.backends import opening
from fcnkit.runtime.backends.cuda import gpu_count, has_driver
from fcnkit.runtime.backends.opening import check_device, open_model
from fcnkit.runtime.backends.registry import BACKENDS, BackendRow
from fcnkit.runtime.predict.workers import Workers
from tests.refusal import refusal
from tests.runtime.models import make_spec, write_model

SUFFIX = {"onnx": ".onnx", "engine": ".engine", "checkpoint": ".pt"}
NO_GPU = (
    "open_backend: a device is the number of an NVIDIA GPU, got 3 on a machine without a driver; "
    "see fcnkit doctor"
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m.onnx", make_spec("labels"))


@pytest.mark.parametrize("name", [row.name for row in BACKENDS.values() if "gpu" in row.devices])
def test_every_backend_with_a_gpu_gets_the_number(
    name: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The libraries themselves are not asked: no machine of the tests has a fourth GPU."""
    given: list[BackendRequest] = []

    def load(self: BackendRow, function: str) -> Any:
        def open_it(path: Path, request: BackendRequest) -> Any:
            given.append(request)
            raise BackendUnavailableError("not here")

        return open_it

    monkeypatch.setattr(BackendRow, "load", load)
    monkeypatch.setattr(opening, "has_driver", lambda: True)
    monkeypatch.setattr(opening, "gpu_count", lambda: 4)
    path = model if BACKENDS[name].runs == "onnx" else tmp_path / f"m{SUFFIX[BACKENDS[name].runs]}"
    path.touch()
    request = BackendRequest(backend=name, device=3)
    check_device(path, request)
    with refusal(BackendUnavailableError, "not here"):
        open_model(path, request)
    assert [dict(one.options) for one in given] == [
        {"device": "cuda:3"} if name == "torch" else {"device_id": "3"}
    ]
    key = next(iter(given[0].options))
    text = (
        f"open_backend: the option {key} is set by the device, got device 3 and {key}=0; "
        "give one of them"
    )
    twice = BackendRequest(backend=name, device=3, options={key: "0"})
    for refuse in (check_device, open_model):
        with refusal(ValueError, text):
            refuse(path, twice)


@pytest.mark.parametrize("name", [row.name for row in BACKENDS.values() if row.devices == ("cpu",)])
def test_backends_of_the_cpu_refuse_it(name: str, model: Path) -> None:
    text = f"open_backend: backend {name} runs on the CPU and takes no device, got 3; leave it out"
    for refuse in (check_device, open_model):
        with refusal(ValueError, text):
            refuse(model, BackendRequest(backend=name, device=3))


def test_a_machine_without_a_gpu_refuses_it(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "has_driver", lambda: False)
    for backend in ("auto", "onnxruntime-cuda"):
        for refuse in (check_device, open_model):
            with refusal(BackendUnavailableError, NO_GPU):
                refuse(model, BackendRequest(backend=backend, device=3))


@pytest.mark.parametrize(
    ("count", "end"),
    [
        (0, "where the driver shows none; see nvidia-smi"),
        (1, "where the driver shows 1; pass 0"),
        (3, "where the driver shows 3; pass 0 to 2"),
    ],
)
@pytest.mark.parametrize("name", ["m.onnx", "m.engine", "m.pt"])
def test_a_gpu_that_is_not_there_is_refused_for_every_source(
    name: str, count: int, end: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "m.pt":
        pytest.importorskip("torch")
    monkeypatch.setattr(opening, "has_driver", lambda: True)
    monkeypatch.setattr(opening, "gpu_count", lambda: count)
    path = model.with_name(name)
    path.touch()
    text = f"open_backend: a device is the number of an NVIDIA GPU, got 3 {end}"
    for refuse in (check_device, open_model):
        with refusal(BackendUnavailableError, text):
            refuse(path, BackendRequest(device=3))
    with refusal(BackendUnavailableError, text):
        Workers(path, devices=[3])


def test_the_driver_counts_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    class Driver:
        """Of two GPUs, or one that does not start."""

        def __init__(self, error: int) -> None:
            self.error = error

        def cuInit(self, flags: int) -> int:
            assert flags == 0
            return self.error

        def cuDeviceGetCount(self, count: Any) -> int:
            count._obj.value = 2
            return 0

    for error, expected in ((0, 2), (100, 0)):
        monkeypatch.setattr("ctypes.CDLL", lambda _, error=error: Driver(error))
        assert (has_driver(), gpu_count()) == (True, expected)

    def missing(_: str) -> None:
        raise OSError("no such library")

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert (has_driver(), gpu_count()) == (False, 0)


@pytest.mark.parametrize(
    ("device", "kind", "text"),
    [
        (256, ValueError, "must be 0..255, got 256; pass a value from 0 to 255"),
        ("0", TypeError, "must be an integer, got str; pass an int"),
    ],
)
def test_a_device_is_a_small_number(device: Any, kind: type[Exception], text: str) -> None:
    with refusal(kind, f"open_backend: device: {text}"):
        BackendRequest(device=device)
