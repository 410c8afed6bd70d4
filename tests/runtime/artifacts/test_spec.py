from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcnkit.errors import ArtifactError
from fcnkit.runtime.artifacts.spec import (
    OPTIONAL_PARTS,
    ModelSpec,
    ShapeRange,
    SourceSpec,
    format_shape,
    parse_shape,
)
from tests.runtime.json_edit import edited_json
from tests.runtime.models import make_spec

SPEC = replace(
    make_spec("labels"),
    classes=("background", "thing"),
    palette=((0, 0, 0), (128, 0, 0)),
    shapes=ShapeRange(min=(1, 32, 32), opt=(1, 320, 480), max=(16, 1024, 1024)),
    source=SourceSpec(sha256="ab", parity=None),
)
REMEDY = "export the model again with fcnkit export"


def test_json_round_trip() -> None:
    assert ModelSpec.from_json(SPEC.to_json(), where="x") == SPEC
    assert json.loads(SPEC.to_json(indent=2))["shapes"]["opt"] == [1, 320, 480]
    assert SPEC.with_parity("fine").source == SourceSpec(sha256="ab", parity="fine")


def edited(path: str, value: Any) -> str:
    return edited_json(SPEC.to_json(), path, value)


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("precision", None, "spec key precision: must be there, got nothing"),
        ("input.mean", None, "spec key input.mean: must be there, got nothing"),
        ("color", "red", "spec key color: is not a key of this format, got red"),
        ("input.size", 3, "spec key input.size: is not a key of this format, got 3"),
        ("head", "boxes", "spec key head: must be one of logits, scores, labels, scene, got boxes"),
        ("classes", "ab", "spec key classes: must be a list, got ab"),
        ("classes", ["a", 3], "spec key classes[1]: must be of type str, got 3"),
        ("ignore_index", True, "spec key ignore_index: must be of type int, got True"),
        ("ignore_index", 0, "spec key ignore_index: must be 255, got 0"),
        ("input", [], "spec key input: must be an object, got []"),
        ("input.mean", [0.1, 0.2], "spec key input.mean: must have 3 entries, got [0.1, 0.2]"),
        ("input.std", [0.1, 0, 0.1], "spec key input.std: must be positive, got [0.1, 0.0, 0.1]"),
        (
            "shapes.min",
            [1, 33, 32],
            "spec key shapes.min: sides must be multiples of 32, got 1x33x32",
        ),
        (
            "shapes.opt",
            [1, 2048, 480],
            "spec key shapes: must be ordered 1 <= min <= opt <= max, "
            "got 1x32x32 1x2048x480 16x1024x1024",
        ),
        (
            "palette",
            [[0, 0, 0]],
            "spec key palette: must have one color per class, 2, got 1 colors",
        ),
        (
            "palette",
            [[0, 0, 0], [0, 0, 256]],
            "spec key palette: colors are 0..255, got [0, 0, 256]",
        ),
        (
            "input.mean",
            [0.5, 10**400, 0.5],
            f"spec key input.mean[1]: must be a number that a float can hold, got {10**400}",
        ),
        ("classes", ["a", "a"], "spec key classes: names must differ, got ['a', 'a']"),
        (
            "input.dtype",
            "float32",
            "spec key input: head labels takes image NHWC uint8, got image NHWC float32",
        ),
        (
            "output.name",
            "logits",
            "spec key output: head labels gives labels NHW uint8, got logits NHW uint8",
        ),
        ("range", None, "spec key range: must be there, got nothing"),
        ("range", [5, 5], "spec key range: must be low < high within 0..65535, got [5, 5]"),
        ("confidence", {"new": 1}, "spec key confidence.name: must be there, got nothing"),
        (
            "confidence",
            {"name": "sure", "layout": "NHW", "dtype": "uint8"},
            "spec key confidence: must be confidence NHW uint8, got sure NHW uint8",
        ),
    ],
)
def test_wrong_specs_are_refused_by_key(path: str, value: Any, text: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        ModelSpec.from_json(edited(path, value), where="m.onnx")
    assert str(caught.value) == f"m.onnx: {text}; {REMEDY}"


SCORES = make_spec("scores")


def test_the_last_layer_round_trips() -> None:
    assert SCORES.last_layer is not None
    assert ModelSpec.from_json(SCORES.to_json(), where="x") == SCORES
    assert (SCORES.stride, SCORES.can_average) == (8, True)
    assert (SPEC.stride, SPEC.can_average) == (1, False)


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("stride", 7, "spec key last_layer.stride: must be even and 2 to 64, got 7"),
        ("stride", 0, "spec key last_layer.stride: must be even and 2 to 64, got 0"),
        ("stride", 66, "spec key last_layer.stride: must be even and 2 to 64, got 66"),
        (
            "stride",
            64,
            "spec key last_layer.stride: must divide the multiple of the sides, 32, got 64",
        ),
        ("stride", 16, "spec key last_layer.bytes: must be 65552 for these classes, got 16400"),
        (
            "form",
            "diagonal",
            "spec key last_layer.bytes: must be 4112 for these classes, got 16400",
        ),
        ("form", "full", "spec key last_layer.form: must be one of dense, diagonal, got full"),
        ("border", "mirror", "spec key last_layer.border: must be one of zero, edge, got mirror"),
        ("sha256", "AB", "spec key last_layer.sha256: must be 64 hexadecimal digits, got AB"),
        ("bytes", None, "spec key last_layer.bytes: must be there, got nothing"),
        ("offset", 0, "spec key last_layer.offset: is not a key of this format, got 0"),
    ],
)
def test_wrong_last_layers_are_refused_by_key(path: str, value: Any, text: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        ModelSpec.from_json(
            edited_json(SCORES.to_json(), f"last_layer.{path}", value), where="m.onnx"
        )
    assert str(caught.value) == f"m.onnx: {text}; {REMEDY}"


def test_a_last_layer_goes_with_the_head_scores() -> None:
    for spec, layer, got in (
        (SPEC, SCORES.last_layer, "head labels and one"),
        (SCORES, None, "head scores and none"),
    ):
        with pytest.raises(ArtifactError) as caught:
            replace(spec, last_layer=layer)
        rule = "goes with head scores, which needs it"
        assert str(caught.value) == f"spec key last_layer: {rule}, got {got}; {REMEDY}"


def test_another_format_is_refused_before_its_keys_are_read() -> None:
    with pytest.raises(ArtifactError) as caught:
        ModelSpec.from_json('{"format": 3, "new": 1}', where="m.onnx")
    assert str(caught.value) == (
        "m.onnx: format: this fcnkit reads formats 1 and 2, got 3; "
        "use the fcnkit version that wrote the file, or export the model again"
    )


def test_a_file_that_was_written_before_bands_is_read() -> None:
    data = json.loads(SPEC.to_json())
    assert data.pop("bands") is None
    assert ModelSpec.from_json(json.dumps(data), where="x") == SPEC


def test_format_1_is_read_as_format_2_without_its_parts() -> None:
    data = json.loads(SPEC.to_json()) | {"format": 1}
    old = {key: value for key, value in data.items() if key not in OPTIONAL_PARTS}
    assert ModelSpec.from_json(json.dumps(old), where="x") == SPEC
    with pytest.raises(ArtifactError) as caught:
        ModelSpec.from_json(json.dumps({**old, "range": [0, 1]}), where="x")
    assert str(caught.value) == (
        f"x: spec key range: is not a key of format 1, got [0, 1]; {REMEDY}"
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.sampled_from(sorted(json.loads(SPEC.to_json()))), json_values)
def test_any_value_anywhere_is_read_or_refused(key: str, value: Any) -> None:
    data = {**json.loads(SPEC.to_json()), key: value}
    try:
        read = ModelSpec.from_json(json.dumps(data), where="x")
    except ArtifactError:
        return
    assert ModelSpec.from_json(read.to_json(), where="x") == read


@given(st.binary(max_size=40))
def test_any_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ArtifactError):
        ModelSpec.from_json(content, where="x")


def test_shapes_are_written_n_h_w() -> None:
    assert parse_shape("8x320x480", "--opt") == (8, 320, 480)
    assert format_shape((8, 320, 480)) == "8x320x480"


@pytest.mark.parametrize("text", ["", "8x320", "1x2x3x4", "-1x2x3", "ax2x3", "1x0x3", "٣x2x3"])
def test_bad_shapes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NxHxW") as caught:
        parse_shape(text, "--opt")
    assert str(caught.value) == f"--opt: a shape is written NxHxW, got {text!r}; write 8x320x480"


def test_the_classes_fit_a_byte() -> None:
    names = tuple(f"c{i}" for i in range(256))
    with pytest.raises(ArtifactError, match="must be 1 to 255 names, got 256 names"):
        replace(SPEC, classes=names, palette=((0, 0, 0),) * 256)
