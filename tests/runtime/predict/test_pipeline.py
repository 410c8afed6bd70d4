"""What a run takes by default on each device."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fcnkit.runtime.artifacts.spec import Head
from fcnkit.runtime.checks import PROCESSORS
from fcnkit.runtime.predict import folder
from fcnkit.runtime.predict.pipeline import default_batch, default_workers, on_cpu
from tests.runtime.models import make_spec

GPUS = (
    "cuda:0 NVIDIA H200",
    "CUDAExecutionProvider on cuda:0 NVIDIA GH200 Grace CPU",
    "TensorrtExecutionProvider on cuda:1 NVIDIA L4",
    "cuda:0",
    "mps",
)
CPUS = ("CPUExecutionProvider", "CPU", "cpu", None)


def backend(provider: str | None, head: Head = "labels") -> Any:
    details = {} if provider is None else {"provider": provider}
    return SimpleNamespace(details=details, spec=make_spec(head))


@pytest.mark.parametrize("head", ["labels", "logits", "scene"])
@pytest.mark.parametrize("provider", [*GPUS, *CPUS])
def test_the_device_decides_not_the_batch(provider: str | None, head: Head) -> None:
    """A scene takes one picture at a time on every device."""
    opened = backend(provider, head)
    assert on_cpu(opened) is (provider in CPUS)
    assert default_batch(opened) == (1 if provider in CPUS or head == "scene" else 8)
    assert default_workers(opened) == (2 if provider in CPUS else max(2, PROCESSORS))


@pytest.mark.parametrize(("provider", "sparing"), [("cuda:0 NVIDIA L4", False), ("CPU", True)])
@pytest.mark.parametrize("most", [1, 16])
def test_large_tiles_run_one_at_a_time_on_a_cpu_only(
    provider: str, sparing: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "MOST_LOGIT_BYTES", 1)
    spec = make_spec("logits", high=(most, 2048, 2048))
    opened = SimpleNamespace(details={"provider": provider}, spec=spec)
    segmenter = SimpleNamespace(tile=(64, 64), backend=opened, spec=spec)
    context: Any = SimpleNamespace(segmenter=segmenter)
    assert folder._Run(context)._sparing() is sparing
