"""The precision of a run whose recipe leaves it to the device."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fcnkit.errors import FcnkitWarning
from fcnkit.train.checkpoint import load_checkpoint
from fcnkit.train.precision import has_bf16, with_precision
from fcnkit.train.recipe import RECIPES
from tests.train.tiny import RECIPE, train_tiny

CPU = torch.device("cpu")
AUTO = RECIPES["modern"]
FP32, BF16 = replace(AUTO, precision="fp32"), replace(AUTO, precision="bf16")


@pytest.fixture(params=[False, True], ids=["plain", "bf16"])
def fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Let PyTorch report a processor without or with bfloat16 instructions."""
    report(monkeypatch, request.param)
    return bool(request.param)


def report(monkeypatch: pytest.MonkeyPatch, has: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux lists a processor's instructions")
def test_the_processor_is_asked() -> None:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    assert has_bf16(CPU) == ("avx512_bf16" in flags)


def test_auto_is_what_the_processor_does_fast(fast: bool) -> None:
    assert AUTO.precision == RECIPES["long"].precision == "auto"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert with_precision(AUTO, CPU) == (BF16 if fast else FP32)
        assert with_precision(FP32, CPU) == FP32


def test_a_resumed_run_keeps_its_precision(fast: bool) -> None:
    assert with_precision(AUTO, CPU, began=FP32) == FP32
    with warnings.catch_warnings():
        warnings.simplefilter("error" if fast else "ignore")
        assert with_precision(AUTO, CPU, began=BF16) == BF16


def test_slow_bf16_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    report(monkeypatch, False)
    text = (
        "--precision: bf16 is fast where the device has instructions for it, got cpu without them; "
        "expect several times the time of a new run with --precision fp32"
    )
    for recipe, began in ((BF16, None), (AUTO, BF16)):
        with pytest.warns(FcnkitWarning) as caught:
            assert with_precision(recipe, CPU, began=began) == BF16
        assert [str(one.message) for one in caught] == [text]


def test_a_run_moves_between_machines(
    shapes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPE, precision="auto", epochs=2)
    expected = train_tiny(shapes_folder, tmp_path / "fp32", replace(recipe, precision="fp32"))
    report(monkeypatch, False)
    train_tiny(shapes_folder, tmp_path / "run", recipe)
    report(monkeypatch, True)
    longer = replace(recipe, epochs=3)
    rows = train_tiny(shapes_folder, tmp_path / "run", longer, resume=True)
    assert [row["loss"] for row in rows[:2]] == [row["loss"] for row in expected]
    assert load_checkpoint(tmp_path / "run" / "last.pt").recipe == replace(longer, precision="fp32")
