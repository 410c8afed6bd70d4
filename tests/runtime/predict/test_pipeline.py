"""What a run takes by default on each device."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, get_args

import pytest

from fcnkit.runtime.artifacts.spec import Head
from fcnkit.runtime.backends.registry import Device
from fcnkit.runtime.checks import PROCESSORS
from fcnkit.runtime.predict import run
from fcnkit.runtime.predict.pipeline import default_batch, default_workers, on_cpu
from tests.runtime.models import make_info, make_spec


def backend(device: Device, head: Head = "labels") -> Any:
    return SimpleNamespace(info=make_info(device), spec=make_spec(head))


@pytest.mark.parametrize("head", get_args(Head))
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_device_decides_not_the_batch(device: Device, head: Head) -> None:
    """A scene takes one picture at a time on every device."""
    opened = backend(device, head)
    assert on_cpu(opened) is (device == "cpu")
    assert default_batch(opened) == (1 if device == "cpu" or head == "scene" else 8)
    assert default_workers(opened) == (2 if device == "cpu" else max(2, PROCESSORS))


@pytest.mark.parametrize(("device", "sparing"), [("gpu", False), ("cpu", True)])
@pytest.mark.parametrize("most", [1, 16])
def test_large_tiles_run_one_at_a_time_on_a_cpu_only(
    device: Device, sparing: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "MOST_LOGIT_BYTES", 1)
    spec = make_spec("logits", high=(most, 2048, 2048))
    opened = SimpleNamespace(info=make_info(device), spec=spec)
    segmenter: Any = SimpleNamespace(tile=(64, 64), backend=opened, spec=spec)
    assert run.one_at_a_time(segmenter) is sparing
