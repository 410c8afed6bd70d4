"""How errors are worded, also with hostile values, and that they keep their parts."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fcnkit
from fcnkit import errors
from fcnkit.errors import message, parts, printable, within
from fcnkit.runtime import palette

KINDS = [
    errors.FcnkitError,
    errors.ArtifactError,
    errors.DataError,
    errors.BackendUnavailableError,
    errors.MissingExtraError,
    errors.VerifyError,
    errors.BadTypeError,
    errors.BadValueError,
]


def test_control_characters_are_escaped() -> None:
    assert printable("Ärger 犬") == "Ärger 犬"
    assert printable("\x1b[2J\u202e\udcff") == "\\x1b[2J\\u202e\\udcff"
    assert message("a\x07", "rule", "\x1b", "mend\nit") == "a\\x07: rule, got \\x1b; mend it"


def test_blanks_are_quoted() -> None:
    assert (
        message(" ", "must be a report", "", "write one")
        == "' ': must be a report, got ''; write one"
    )


def test_long_values_are_cut() -> None:
    assert message("a", "rule", "9" * 5000, "mend it") == f"a: rule, got {'9' * 1000}...; mend it"


def made() -> list[Exception]:
    text = message("--min", "sides must be multiples of 32", (1, 33), "use 1x64x32")
    return [kind(text) for kind in KINDS]


@pytest.mark.parametrize("error", made(), ids=lambda error: type(error).__name__)
def test_an_error_keeps_its_parts_through_pickling_and_copying(error: Any) -> None:
    for same in (error, pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert type(same) is type(error)
        assert str(same) == "--min: sides must be multiples of 32, got (1, 33); use 1x64x32"
        assert same.what == "--min"
        assert same.rule == "sides must be multiples of 32"
        assert same.got == "(1, 33)"
        assert same.remedy == "use 1x64x32"


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_made_of_a_plain_text_as_libraries_re_raise_it(kind: Any) -> None:
    error = kind("Caught it in a worker, got nothing; a traceback")
    assert str(error) == error.rule == "Caught it in a worker, got nothing; a traceback"
    assert (error.what, error.got, error.remedy) == ("", "", "")
    assert str(kind()) == kind().rule == ""


def test_argument_errors_are_the_errors_that_python_users_catch() -> None:
    assert issubclass(errors.BadTypeError, TypeError)
    assert issubclass(errors.BadValueError, ValueError)
    assert not issubclass(errors.BadTypeError, errors.FcnkitError)


@given(st.text(), st.text(), st.text() | st.integers(), st.text())
def test_the_parts_join_to_the_text_on_one_line(
    what: str, rule: str, got: str | int, remedy: str
) -> None:
    text = message(what, rule, got, remedy)
    assert text == f"{text.what}: {text.rule}, got {text.got}; {text.remedy}"
    assert text.isprintable()
    assert text.what
    assert text.got


def test_parts_of_any_error() -> None:
    ours = parts(ValueError(message("a", "must be 1", 2, "give 1")))
    assert (ours.what, ours.rule, ours.got, ours.remedy) == ("a", "must be 1", "2", "give 1")
    assert ours.fact == "must be 1, got 2"
    theirs = parts(OSError(2, "No such file", "x"))
    assert theirs == theirs.rule == theirs.fact == "[Errno 2] No such file: 'x'"
    assert (theirs.what, theirs.got, theirs.remedy) == ("", "", "")


def test_a_place_goes_in_front_of_a_message() -> None:
    text = within("m.onnx", errors.DataError(message("spec", "must be 1", 2, "give 1")))
    assert text == "m.onnx: spec: must be 1, got 2; give 1"
    assert (text.what, text.rule, text.remedy) == ("m.onnx: spec", "must be 1", "give 1")
    plain = within("m.onnx", OSError("disk\nfull"))
    assert plain == plain.rule == "m.onnx: disk full"


def test_errors_that_are_raised_on_purpose_keep_their_parts(tmp_path: Path) -> None:
    missing = tmp_path / "no.onnx"
    for call, rule, remedy in (
        (lambda: fcnkit.load(missing, backend="magic"), "backend must be one of", "see fcnkit"),
        (lambda: palette.voc_palette("2"), "must be an integer", "pass an int"),  # type: ignore[arg-type]
        (lambda: palette.voc_palette(0), "must be", ""),
        (lambda: fcnkit.load(missing), "must be a model file", "check the path"),
    ):
        with pytest.raises(
            (errors.FcnkitError, errors.BadTypeError, errors.BadValueError)
        ) as caught:
            call()
        error = caught.value
        assert rule in error.rule
        assert remedy in error.remedy
        assert str(error) == f"{error.what}: {error.rule}, got {error.got}; {error.remedy}"
