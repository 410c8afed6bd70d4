"""The options that predict, eval and bench share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest
import typer
from typer.models import OptionInfo

from fcnkit.cli import app
from fcnkit.cli.options import parse_backend_options, parse_range, parse_size
from tests.refusal import refusal


def verbs(group: typer.Typer) -> Iterator[Callable[..., Any]]:
    yield from (command.callback for command in group.registered_commands if command.callback)
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            yield from verbs(inner.typer_instance)


def choices() -> dict[str, tuple[tuple[str, ...], OptionInfo]]:
    """By verb and option: the names that the type allows, and the option."""
    found = {}
    for verb in verbs(app):
        for name, hint in get_type_hints(verb, include_extras=True).items():
            if get_origin(hint) is not Annotated:
                continue
            kind, *rest = get_args(hint)
            literal = next((k for k in (kind, *get_args(kind)) if get_origin(k) is Literal), None)
            if literal is not None:
                found[f"{verb.__name__} {name}"] = get_args(literal), rest[0]
    return found


CHOICES = choices()


def test_options_of_a_few_names_are_found() -> None:
    assert {"predict format", "predict cover", "onnx head", "triton device"} <= set(CHOICES)


@pytest.mark.parametrize("option", CHOICES)
def test_an_option_takes_the_names_of_its_type_and_lists_them(option: str) -> None:
    names, info = CHOICES[option]
    listed = " or ".join(filter(None, (", ".join(names[:-1]), names[-1]))) + ": "
    assert str(info.help).startswith(listed)
    assert info.callback is not None
    assert info.callback(None) is None
    assert [info.callback(name) for name in names] == list(names)
    text = f"{info.default}: must be one of {', '.join(names)}, got x; choose one of these"
    with refusal(ValueError, text):
        info.callback("x")


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
