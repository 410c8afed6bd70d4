"""The table of precisions: what it says is what libraries, documents and measurements say."""

from __future__ import annotations

import ast
import csv
import itertools
import re
from dataclasses import fields, replace
from typing import get_args

import onnx
import pytest
import torch

from fcnkit.cli.export import onnx as export_command
from fcnkit.runtime.artifacts.precisions import (
    NUMBER_TYPES,
    PRECISIONS,
    Compute,
    Precision,
    Tolerance,
    full_name,
    less_exact,
    precisions_taking,
)
from tests.test_codebase import ROOT, SOURCES

DOCS = ROOT / "docs"


def test_every_precision_has_a_row_and_a_number_type() -> None:
    assert tuple(PRECISIONS) == get_args(Precision)
    assert set(PRECISIONS) <= set(NUMBER_TYPES)
    assert all(name == row.name for name, row in (PRECISIONS | NUMBER_TYPES).items())


def test_a_backend_can_be_asked_for_every_type_that_libraries_have_a_name_for() -> None:
    named = [kind.name for kind in NUMBER_TYPES.values() if kind.openvino]
    assert get_args(Compute) == ("auto", *named)
    assert named == [kind.name for kind in NUMBER_TYPES.values() if kind.torch]
    assert {row.compute for row in PRECISIONS.values()} <= set(named)


def test_libraries_know_the_types_by_these_names() -> None:
    types = dict(onnx.TensorProto.DataType.items())
    by_onnx = {"fp32": ["FLOAT"], "bf16": ["BFLOAT16"], "fp16": ["FLOAT16"]}
    by_onnx["int8"] = ["UINT8", "INT8"]
    found = {name: kind.onnx for name, kind in NUMBER_TYPES.items()}
    assert found == {name: tuple(types[one] for one in names) for name, names in by_onnx.items()}
    dtypes = [torch.float32, torch.bfloat16, torch.float16]
    assert [getattr(torch, k.torch) for k in NUMBER_TYPES.values() if k.torch] == dtypes


def test_openvino_knows_the_types_by_these_names() -> None:
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    types = openvino.Type
    hints = {"fp32": types.f32, "bf16": types.bf16, "fp16": types.f16}
    for name, hint in hints.items():
        assert hint.get_type_name() == NUMBER_TYPES[name].openvino


def test_tensorrt_knows_the_types_by_these_names() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    assert all(hasattr(trt.DataType, kind.tensorrt) for kind in NUMBER_TYPES.values())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Half", {"fp16"}),
        ("Channel major FP16 format", {"fp16"}),
        ("Row major linear FP32", {"fp32"}),
        ("Float", {"fp32"}),
        ("BFloat16", {"bf16"}),
        ("BF16", {"bf16"}),
        ("Int8", {"int8"}),
        ("UInt8", set()),
        ("Int64", set()),
    ],
)
def test_words_of_the_engine_inspector(text: str, found: set[str]) -> None:
    kinds = NUMBER_TYPES.values()
    assert {kind.name for kind in kinds if kind.inspected.search(text)} == found


@pytest.mark.parametrize(
    ("name", "full"),
    [("f32", "fp32"), ("f16", "fp16"), ("bf16", "bf16"), ("fp16", "fp16"), ("tf32", "tf32"),
     ("auto", "auto"), ("f8", "f8"), ("", "")],
)  # fmt: skip
def test_short_names_become_full_ones(name: str, full: str) -> None:
    assert full_name(name) == full


def test_rows_go_from_the_most_to_the_least_exact() -> None:
    rows = list(PRECISIONS.values())
    for better, worse in itertools.pairwise(rows):
        assert less_exact(better.name, worse.name) == worse.name
        assert less_exact(worse.name, better.name) == worse.name
        for field in fields(Tolerance):
            ours, theirs = (getattr(row.tolerance, field.name) for row in (better, worse))
            assert ours >= theirs if field.name.startswith("min_") else ours <= theirs
    assert less_exact("int8", "int8") == "int8"


def test_a_gpu_may_only_be_less_exact_in_numbers() -> None:
    for row in PRECISIONS.values():
        same = ("max_error", "mean_error", "max_margin", "max_confidence_error")
        ours = {name: getattr(row.tolerance, name) for name in same}
        assert replace(row.gpu_tolerance, **ours) == row.tolerance


def test_every_option_belongs_to_the_export() -> None:
    options = {option for row in PRECISIONS.values() for option in row.takes}
    arguments = export_command.__annotations__
    assert {option[2:].replace("-", "_") for option in options} <= set(arguments)
    assert precisions_taking("--keep-fp32") == ("fp16", "int8")
    assert precisions_taking("--activations") == ("int8",)


def test_the_measured_rows_of_the_documents_are_within_tolerance() -> None:
    with (DOCS / "export.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 200
    for row in rows:
        least = 100 * PRECISIONS[row["precision"]].tolerance.min_agreement  # type: ignore[index]
        assert float(row["label_agreement_percent"]) >= least, row


def test_the_documents_say_what_each_precision_is() -> None:
    text = (DOCS / "export.md").read_text(encoding="utf-8")
    table = text.partition("| `--precision` |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines()[2:]]
    assert [name.strip(" `") for name, _ in rows] == list(PRECISIONS)
    for (_, words), row in zip(rows, PRECISIONS.values(), strict=True):
        assert words.strip().startswith(row.words)


def test_the_documents_state_these_tolerances() -> None:
    text = (DOCS / "export.md").read_text(encoding="utf-8")
    table = text.partition("| tolerance of |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    expected = []
    for name, row in PRECISIONS.items():
        tolerances = {name: row.tolerance, f"{name} on a GPU": row.gpu_tolerance}
        for title, limits in tolerances.items():
            if title == name or limits != row.tolerance:
                errors = (limits.max_error, limits.mean_error, limits.max_margin)
                shares = (
                    limits.min_agreement,
                    limits.min_picture_agreement,
                    limits.min_balanced_agreement,
                )
                percent = [f"{100 * share:g} %" for share in shares]
                drop = f"{limits.max_miou_drop:g}"
                expected.append([title, *(f"{error:g}" for error in errors), *percent, drop])
    assert rows == expected


def test_no_other_module_has_a_table_by_precision() -> None:
    """Numbers of a precision that stand twice will differ one day."""
    names, found = set(NUMBER_TYPES), []
    for path in [*SOURCES, *(ROOT / "benchmarks").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            keys = [ast.literal_eval(key) for key in _constants(node)]
            if len(names & set(keys)) > 1:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")  # type: ignore[attr-defined]
    assert found == []


def _constants(node: ast.AST) -> list[ast.Constant]:
    keys = node.keys if isinstance(node, ast.Dict) else []
    return [key for key in keys if isinstance(key, ast.Constant)]


def test_the_short_names_are_written_in_the_table_alone() -> None:
    pattern = re.compile(r"""["'](f32|f16)["']""")
    using = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if pattern.search(path.read_text(encoding="utf-8"))
    ]
    assert using == ["runtime/artifacts/precisions.py"]
