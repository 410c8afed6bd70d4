"""The options that predict, eval and bench share."""

from __future__ import annotations

import pytest

from fcnkit.cli.options import parse_backend_options, parse_range, parse_size
from tests.refusal import refusal


def test_backend_options_are_pairs() -> None:
    assert parse_backend_options(None) == {}
    pairs = ["ENABLE_CPU_PINNING=NO", "trt_profile=a=b", "EMPTY="]
    assert parse_backend_options(pairs) == {
        "ENABLE_CPU_PINNING": "NO",
        "trt_profile": "a=b",
        "EMPTY": "",
    }


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        (["PINNING"], "is written KEY=VALUE, got PINNING; write ENABLE_CPU_PINNING=NO"),
        (["=NO"], "is written KEY=VALUE, got =NO; write ENABLE_CPU_PINNING=NO"),
        (["A=1", "A=2"], "each option is given once, got A=1 and A=2; drop one"),
    ],
)
def test_backend_options_that_are_no_pairs(pairs: list[str], text: str) -> None:
    with refusal(ValueError, f"--backend-option: {text}"):
        parse_backend_options(pairs)


def test_sizes_and_ranges() -> None:
    assert parse_size("320X480", "--crop") == (320, 480)
    assert parse_range("0.5..2", "--scale") == (0.5, 2.0)
    assert parse_range("1...5", "--scale") == (1.0, 0.5)


@pytest.mark.parametrize(
    "text", ["", "320", "320x", "x480", "3.0x4", "-3x4", "1x2x3", "²x4", f"1x{10**20}"]
)
def test_sizes_that_are_none(text: str) -> None:
    with refusal(ValueError, f"--tile: a size is written HxW, got {text!r}; write 32x64"):
        parse_size(text, "--tile", "32x64")


@pytest.mark.parametrize("text", ["", "1", "1..", "..2", "1,2", "a..b"])
def test_ranges_that_are_none(text: str) -> None:
    with refusal(ValueError, f"--scale: a range is written LOW..HIGH, got {text!r}; write 0.5..2"):
        parse_range(text, "--scale")
