"""The options that predict, eval and bench share."""

from __future__ import annotations

import pytest

from fcnkit.cli.options import parse_backend_options
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
