"""The pages for readers: their commands exist, their translations follow, they are in the site."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from fcnkit.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("README*.md"), *(ROOT / "docs").rglob("*.md")])
TRANSLATED = {
    "README.zh-CN.md": "README.md",
    "docs/zh/index.md": "docs/index.md",
    "docs/zh/adopt.md": "docs/adopt.md",
    "docs/zh/predict.md": "docs/predict.md",
}
WHOLE = [page for page in TRANSLATED if page.startswith("docs/")]
"""Those that leave nothing out but measurements."""


def blocks(page: Path) -> Iterator[str]:
    """The code blocks of a page."""
    yield from re.findall(r"^```\w*\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """The command lines of fcnkit in a page, without their comments."""
    lines = "\n".join(blocks(page)).replace("\\\n", " ").splitlines()
    parts = [part.strip() for line in lines for part in re.split(r" && | \| ", line.split(" #")[0])]
    return [part for part in parts if re.match(r"fcnkit [a-z]", part)]


def unknown_options(line: str) -> list[str]:
    """What a command line names and fcnkit does not have."""
    command: Any = typer.main.get_command(app)
    words = line.split()[1:]
    while hasattr(command, "commands") and words:
        found = command.commands.get(words.pop(0))
        if found is None:
            return [line]
        command = found
    known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
    given = re.findall(r"(?<=\s)(--?[a-z][a-z0-9-]*)(?=[\s=]|$)", " " + " ".join(words))
    return [option for option in given if option not in known | {"--help"}]


def test_unknown_commands_and_options_are_found() -> None:
    assert unknown_options("fcnkit predict m.onnx images -o labels") == []
    assert unknown_options("fcnkit predict m.onnx --no-such --help") == ["--no-such"]
    assert unknown_options("fcnkit export scroll m.onnx") == ["fcnkit export scroll m.onnx"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_has_its_options(page: Path) -> None:
    assert {line: bad for line in commands(page) if (bad := unknown_options(line))} == {}


def test_every_command_of_the_demo_has_its_options() -> None:
    make = ["make", "--dry-run", "--assume-old", ".venv/.installed", "demo", "DATA=voc"]
    done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = re.findall(r"\bbin/(fcnkit .*)", done.stdout.replace("\\\n", " "))
    assert len(lines) >= 9
    assert {line: bad for line in lines if (bad := unknown_options(line))} == {}


def code(page: Path) -> list[str]:
    """The code blocks of a page without their comments, which are translated."""
    return [re.sub(r" *#.*$", "", block, flags=re.MULTILINE) for block in blocks(page)]


@pytest.mark.parametrize("page", TRANSLATED)
def test_a_translation_has_the_code_of_its_page(page: str) -> None:
    assert len(code(ROOT / page)) > 2
    assert code(ROOT / page) == code(ROOT / TRANSLATED[page])


def names(page: str) -> set[str]:
    """What stands between backticks in the text of a page."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text("utf-8"), flags=re.DOTALL)
    return set(re.findall(r"`([^`\n]+)`", text))


@pytest.mark.parametrize("page", WHOLE)
def test_a_translation_has_the_names_of_its_page(page: str) -> None:
    assert names(page) ^ names(TRANSLATED[page]) == set()


@pytest.mark.parametrize("page", TRANSLATED)
def test_a_translation_has_the_headings_of_its_page(page: str) -> None:
    def levels(path: str) -> list[int]:
        text = re.sub(r"```.*?```", "", (ROOT / path).read_text("utf-8"), flags=re.DOTALL)
        return [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]

    assert levels(page) == levels(TRANSLATED[page])


def test_the_site_has_every_page() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    listed = re.findall(r": ([\w/.-]+\.md)$", text, re.MULTILINE)
    pages = [str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed) == sorted(pages)


def test_the_readme_is_short() -> None:
    assert (ROOT / "README.md").read_text("utf-8").count("\n") <= 150


def test_only_one_line_names_the_owner() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert text.count("OWNER") == 1
