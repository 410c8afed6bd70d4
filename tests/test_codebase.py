"""The rules of the house about size and documentation, and that the documents are true."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [
    path
    for folder in ("src", "train", "export", "runtime")
    for path in (ROOT / folder).rglob("*.py")
]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> Iterator[tuple[str, Function]]:
    """Functions and methods; one inside another counts as part of it."""
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        for node in [*tree.body, *(item for owner in classes for item in owner.body)]:
            if isinstance(node, Function):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def test_a_function_fits_on_a_screen() -> None:
    def lines(node: Function) -> int:
        body = node.body[1:] if ast.get_docstring(node) else node.body
        return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0

    assert [name for name, node in functions() if lines(node) > 60] == []


def test_a_module_is_one_idea() -> None:
    sources = [*SOURCES, *(ROOT / "csrc").rglob("*.[ch]pp")]
    lengths = {str(p.relative_to(ROOT)): p.read_text("utf-8").count("\n") for p in sources}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_nothing_from_outside_is_compiled_for_an_instruction_set() -> None:
    """Other files share inline functions of a header; not every machine could run their code."""
    headers = [*(ROOT / "csrc" / "generic").glob("*.hpp")]
    headers += (ROOT / "csrc").glob("*/vectors.hpp")
    headers += (ROOT / "csrc").glob("*/encode.hpp")
    outside = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in headers
        for line in path.read_text("utf-8").splitlines()
        if line.startswith("#include") and not line.startswith('#include "generic/')
    ]
    assert (len(headers) >= 9, outside) == (True, [])


def test_public_functions_are_documented() -> None:
    bare = [
        name
        for name, node in functions()
        if not node.name.startswith("_") and len(node.body) > 3 and not ast.get_docstring(node)
    ]
    assert bare == []


def documents_nothing(tree: ast.Module) -> list[int]:
    """Lines of strings in a module or class that stand neither first nor below an assignment."""
    bodies = [tree.body, *(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]
    return [
        node.lineno
        for body in bodies
        for before, node in pairwise(body)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        and not (
            isinstance(before, ast.Assign | ast.AnnAssign) and before.end_lineno == node.lineno - 1
        )
    ]


def test_a_string_documents_what_stands_above_it() -> None:
    assert documents_nothing(ast.parse('"""M."""\n\n"""Nothing."""\nA = 1\n"""A."""')) == [3]
    assert documents_nothing(ast.parse('"""M."""\nA = 1\n\n"""Apart."""')) == [4]
    found = {
        str(path.relative_to(ROOT)): lines
        for path in SOURCES
        if (lines := documents_nothing(ast.parse(path.read_text("utf-8"))))
    }
    assert found == {}


def test_nothing_prints_outside_the_command_line() -> None:
    printing = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if "cli" not in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert printing == []


def test_nobody_takes_an_error_apart_by_its_text() -> None:
    taken = re.compile(
        r"str\((error|err|exc|e)\)\.(removeprefix|removesuffix|r?partition|split\(\")"
    )
    takers = [path for path in SOURCES if taken.search(path.read_text("utf-8"))]
    # torch's errors have no parts.
    assert [path.name for path in takers] == ["reading.py"]


def test_wrong_arguments_raise_errors_that_keep_their_parts() -> None:
    plain = re.compile(r"\b(?:raise|return) (?:Value|Type)Error\((?!\))")
    found = [
        str(path.relative_to(ROOT)) for path in SOURCES if plain.search(path.read_text("utf-8"))
    ]
    assert found == []


def test_choices_of_the_command_line_need_no_cast() -> None:
    sources = [path for path in SOURCES if "cli" in path.parts]
    assert [path.name for path in sources if "cast(" in path.read_text("utf-8")] == []


PHRASES = (
    r"(?<!here )\b(is|was) (no|none of (the|both)) (integer|str|bool|text|array|tensor|list|tuple|"
    r"dict|pair|class|multiple|number|file|folder|checkpoint|report|zip|photo|two|three|four)\b",
    r"\b(none|one|neither) of both\b(?!,)",
    r"\b(a|A) text\b(?! file)",
    r"\b[Ss]o many\b",
    r"\bof (its|their) own\b",
    r"\bwhat was asked\b|\basked[ -]for\b",
    r"\bbe it only\b",
    r"(?i)colour|neighbour|flavour|behaviour|labelled|labelling|judgement|\bgrey\b|centred",
    r"(?i)(normal|initial|serial|quant|optim|synchron|vector)is(e|ed|es|er|ing|ation)",
)
"""British spelling, and phrases that nobody says."""


def prose() -> list[Path]:
    folders = ("src", "runtime", "train", "export", "csrc", "benchmarks", "tests", "docs")
    found = [path for name in folders for path in (ROOT / name).rglob("*.*")]
    kinds = {".py", ".pyi", ".hpp", ".cpp", ".md"}
    kept = [path for path in found if path.suffix in kinds and "experiments" not in path.parts]
    return [*kept, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]


@pytest.mark.parametrize("phrase", PHRASES)
def test_plain_american_english(phrase: str) -> None:
    here = Path(__file__)
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in prose()
        if path != here
        # The class Labelled keeps its name.
        for match in re.finditer(phrase, path.read_text("utf-8").replace("Labelled", ""))
    ]
    assert found == []


def test_links_between_the_documents_lead_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def files_in_the_architecture() -> list[str]:
    """The files that docs/architecture.md describes, by path, in its order."""
    found, folder = [], ""
    for line in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = re.fullmatch(r"### `([\w/]+)`", line)
            folder = heading[1] if heading else ""
        elif folder and (row := re.fullmatch(r"\| `([\w.]+)` \| (.+) \|", line)):
            assert row[2].endswith("."), line
            found.append(f"{folder}/{row[1]}")
    return found


def test_the_architecture_page_describes_every_source_file_once() -> None:
    kinds = {".py", ".pyi", ".cpp", ".hpp", ".sh", ".html", ".js", ".css"}
    tree = [
        str(path.relative_to(ROOT))
        for folder in ("src/fcnkit", "runtime", "train", "export", "csrc")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in kinds
    ]
    assert sorted(files_in_the_architecture()) == sorted(tree)


def paths_named_in(page: str) -> set[str]:
    """What stands between backticks in a page and looks like a path of this repository."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    folders = "src|runtime|train|export|csrc|tests|docs|benchmarks"
    return set(re.findall(rf"`((?:{folders})/[\w./-]+)`", text))


@pytest.mark.parametrize("page", ["architecture.md", "extending.md"])
def test_paths_named_in_the_guides_exist(page: str) -> None:
    named = paths_named_in(page)
    assert len(named) > 10
    # Words in capitals stand for a name that the reader chooses.
    fixed = {path for path in named if not re.search(r"[A-Z]{3,}", path)}
    assert {path for path in fixed if not (ROOT / path).exists()} == set()
