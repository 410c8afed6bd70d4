"""The chapter's pages: the notebook runs from top to bottom, and both languages say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

DOCS = Path(__file__).parents[2] / "docs"
CHAPTER = (
    "read_voc_images", "VOC_CLASSES", "VOC_COLORMAP", "voc_colormap2label", "voc_label_indices",
    "voc_rand_crop", "VOCSegDataset", "normalize_image", "filter", "load_data_voc", "trans_conv",
    "kernel2matrix", "final_conv", "transpose_conv", "bilinear_kernel", "loss", "train_ch13",
    "predict", "label2image",
)  # fmt: skip
"""The names that the three sections define or use."""


def test_the_notebook_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    torch.set_num_threads(1)
    notebook = json.loads((DOCS / "d2l.ipynb").read_text(encoding="utf-8"))
    space: dict[str, Any] = {}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), space)
    printed = capsys.readouterr().out
    assert "read 12 examples" in printed
    for init in ("bilinear", "xavier"):
        assert 0 <= space["results"][init]["mean_iou"] <= 1
    assert space["results"]["bilinear"]["loss"] != space["results"]["xavier"]["loss"]


def headings(name: str) -> list[tuple[int, str]]:
    """The level of each heading, and the number of the section where it has one."""
    found = re.findall(r"^(#+) (.*)$", (DOCS / name).read_text(encoding="utf-8"), re.MULTILINE)
    return [(len(marks), "".join(re.findall(r"14\.\d+", title))) for marks, title in found]


def codes(name: str) -> list[str]:
    """Everything in backticks."""
    return re.findall(r"`([^`\n]+)`", (DOCS / name).read_text(encoding="utf-8"))


def test_both_languages_have_the_same_sections_and_code() -> None:
    assert headings("d2l.md") == headings("d2l.zh-CN.md")
    assert len(headings("d2l.md")) == 17
    assert sorted(codes("d2l.md")) == sorted(codes("d2l.zh-CN.md"))


@pytest.mark.parametrize("name", ["d2l.md", "d2l.zh-CN.md"])
def test_every_name_of_the_chapter_is_there(name: str) -> None:
    text = " ".join(codes(name))
    assert [word for word in CHAPTER if word not in text] == []
