"""``Predictor`` as engines call it: columns in and out, one model for many shares."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcnkit.runtime import Predictor
from fcnkit.runtime.predict import opening, predictor
from tests.refusal import refusal
from tests.runtime.models import make_spec, write_model
from tests.runtime.pictures import write_pictures


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    return sorted(map(str, write_pictures(tmp_path / "in", 6).iterdir()))


@pytest.fixture
def label(model: Path, tmp_path: Path) -> Predictor:
    return Predictor(
        model=str(model), root=str(tmp_path / "in"), out=str(tmp_path / "out"), threads=1
    )


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that are opened, in order."""
    found: list[str] = []
    load = opening.load

    def counted(path: str, **options: Any) -> Any:
        found.append(str(path))
        return load(path, **options)

    predictor._KEPT.close()
    monkeypatch.setattr(opening, "load", counted)
    return found


def test_columns_in_and_columns_out(label: Predictor, paths: list[str]) -> None:
    Path(paths[2]).write_text("broken")
    records = {record["output"]: record for record in label(paths)}
    for batch in (
        {"path": np.array(paths, object), "other": np.arange(len(paths))},
        {"text": np.array(paths)},
        {"item": paths},
    ):
        columns = label(batch)
        assert {len(column) for column in columns.values()} == {len(paths)}
        for number, output in enumerate(columns["output"]):
            row = {key: column[number] for key, column in columns.items()}
            record = records[output]
            for key in ("input", "status", "error", "confidence"):
                assert row[key] == record[key]
            for key in ("input_stamp", "size", "options", "pixels"):
                expected = json.loads(json.dumps(record[key]))
                assert (None if row[key] is None else json.loads(row[key])) == expected
    assert columns["status"].count("failed") == 1


def test_columns_without_files_are_refused(model: Path, tmp_path: Path) -> None:
    label = Predictor(model=str(model), root=str(tmp_path), out=str(tmp_path / "out"))
    text = "Predictor: a batch has a column path, or one column, got {}; "
    remedy = "select the column of the files"
    with refusal(ValueError, text.format("a, b") + remedy):
        label({"a": ["x"], "b": ["y"]})
    with refusal(ValueError, text.format("none") + remedy):
        label({})


def test_the_model_is_opened_once_for_many_shares(
    label: Predictor, paths: list[str], openings: list[str]
) -> None:
    for share in (paths[:2], paths[2:4], paths[4:]):
        # Engines send a copy with every share.
        again: Predictor = pickle.loads(pickle.dumps(label))
        assert [record["status"] for record in again(share)] == ["done", "done"]
    assert openings == [label.model]
    list(replace(label, batch=2)(paths))
    assert len(openings) == 1
    list(replace(label, cover="pad")(paths))
    assert len(openings) == 2


def test_another_model_under_the_same_name_is_opened(tmp_path: Path, openings: list[str]) -> None:
    source = write_pictures(tmp_path / "in", 1)
    model = write_model(tmp_path / "m.onnx", make_spec("logits"))
    label = Predictor(model=str(model), root=str(source), out=str(tmp_path / "out"), threads=1)
    [before] = label([str(source / "00000.png")])
    write_model(model, make_spec("labels"))
    [after] = label([str(source / "00000.png")])
    assert len(openings) == 2
    assert before["model_sha256"] != after["model_sha256"]


def test_two_shares_at_once_have_two_models(
    label: Predictor, paths: list[str], openings: list[str]
) -> None:
    first = label(paths[:1])
    next(first)
    [other] = label(paths[1:2])
    assert other["status"] == "done"
    assert list(first) == []
    assert len(openings) == 2
    list(label(paths))
    assert len(openings) == 2
