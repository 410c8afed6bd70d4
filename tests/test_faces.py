"""The public names: each face, its page in docs/api.md, and what importing it loads."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fcnkit.errors import MissingExtraError
from fcnkit.faces import lazy_face
from tests.refusal import refusal
from tests.test_imports import BLOCK, FACES, HEAVY, MODULES, ROOT, python

PAGE = ROOT / "docs" / "api.md"


def statements(face: str) -> list[ast.stmt]:
    return ast.parse(MODULES[face].read_text(encoding="utf-8")).body


def typed_imports(face: str) -> dict[str, str]:
    """Names that type checkers see in a face, each with the module that it comes from."""
    blocks = [node for node in statements(face) if isinstance(node, ast.If)]
    assert [ast.unparse(block.test) for block in blocks] == ["TYPE_CHECKING"]
    found = {}
    for node in blocks[0].body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            found[alias.name] = inner if inner in MODULES else str(node.module)
    return found


def lazy_homes(face: str) -> dict[str, str]:
    """Names that Python sees in a face, each with the module that it comes from."""
    block = next(node for node in statements(face) if isinstance(node, ast.If))
    calls = [node for node in ast.walk(block) if isinstance(node, ast.Call)]
    homes: dict[str, str] = ast.literal_eval(calls[0].args[1])
    return {name: home for home, names in homes.items() for name in names.split()}


def own_names(face: str) -> set[str]:
    """Names that a face defines or imports at its top level, for everybody."""
    found: set[str] = set()
    for node in statements(face):
        if isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {ast.unparse(target) for target in node.targets}
    return found


def public(face: str) -> list[str]:
    names: list[str] = importlib.import_module(face).__all__
    return names


@pytest.mark.parametrize("face", sorted(FACES))
def test_type_checkers_and_python_see_the_same_names(face: str) -> None:
    lazy, typed = lazy_homes(face), typed_imports(face)
    assert lazy.items() <= typed.items()
    names = public(face)
    assert len(set(names)) == len(names)
    assert set(lazy) <= set(names)
    assert set(names) - set(lazy) <= own_names(face)
    # What else is imported for type checkers alone serves the signatures in the face itself.
    text = MODULES[face].read_text(encoding="utf-8").split("__all__")[1]
    assert all(re.search(rf"\b{name}\b", text) for name in set(typed) - set(lazy))


@pytest.mark.parametrize("face", sorted(FACES))
def test_every_public_name_is_there(face: str) -> None:
    module = importlib.import_module(face)
    values = {name: getattr(module, name) for name in public(face)}
    assert all(value is not None for value in values.values())
    assert set(values) <= set(dir(module))
    for name, home in lazy_homes(face).items():
        origin: Any = importlib.import_module(home)
        assert values[name] is (origin if home.endswith(f".{name}") else getattr(origin, name))


@pytest.mark.parametrize("face", sorted(FACES))
def test_a_public_name_is_no_other_thing_than_a_submodule_of_that_name(face: str) -> None:
    # Importing a submodule binds its name in the package, over whatever stood there.
    below = {n.rpartition(".")[2] for n in MODULES if n.rpartition(".")[0] == face}
    for name in set(public(face)) & below:
        assert importlib.import_module(f"{face}.{name}") is getattr(sys.modules[face], name)


@pytest.mark.parametrize("face", sorted(FACES))
def test_a_name_that_is_not_there_is_an_attribute_error(face: str) -> None:
    module = importlib.import_module(face)
    with pytest.raises(AttributeError) as caught:
        module.no_such_name  # noqa: B018 - reading it is the test
    assert str(caught.value) == f"module '{face}' has no attribute 'no_such_name'"


def pages() -> dict[str, dict[str, str]]:
    """The lines of docs/api.md by face: name to description."""
    found: dict[str, dict[str, str]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"## `([\w.]+)`", line):
            found[heading[1]] = {}
        elif row := re.fullmatch(r"\| `(\w+)` \| (.+) \|", line):
            face = list(found)[-1]
            assert row[1] not in found[face], f"{face}.{row[1]} stands there twice"
            found[face][row[1]] = row[2]
    return found


def test_the_page_lists_every_face_and_nothing_else() -> None:
    assert set(pages()) == FACES


@pytest.mark.parametrize("face", sorted(FACES))
def test_the_page_lists_every_public_name_and_nothing_else(face: str) -> None:
    page = pages()[face]
    assert sorted(page) == sorted(public(face))
    assert all(len(text.split()) >= 3 for text in page.values())


def test_the_example_on_the_page_calls_what_is_there() -> None:
    [example] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    calls = [node for node in ast.walk(ast.parse(example)) if isinstance(node, ast.Call)]
    checked = []
    for call in calls:
        match ast.unparse(call.func).split("."):
            case ["fcnkit" | "train" | "export" as face, name]:
                module = importlib.import_module("fcnkit" if face == "fcnkit" else f"fcnkit.{face}")
                assert name in module.__all__
                keywords = {str(keyword.arg): None for keyword in call.keywords}
                inspect.signature(getattr(module, name)).bind(*call.args, **keywords)
                checked.append(name)
    assert sorted(checked) == ["export_onnx", "load", "open_data", "train"]


def test_importing_the_faces_loads_no_heavy_library() -> None:
    names = ", ".join(sorted(FACES))
    code = f"import sys, {names}; print([m for m in {HEAVY} if m in sys.modules])"
    assert python(code).strip() == "[]"


@pytest.mark.parametrize(
    ("face", "name", "package", "extra"),
    [
        ("fcnkit.train", "create_model", "torch", "train"),
        ("fcnkit.train", "load_checkpoint", "torch", "train"),
        ("fcnkit.export", "export_onnx", "torch", "export"),
    ],
)
def test_a_name_whose_extra_is_missing_says_which(
    face: str, name: str, package: str, extra: str
) -> None:
    text = (
        f"{face}.{name}: needs the package {package}, got no such package; "
        f"pip install 'fcnkit[{extra}]'"
    )
    for line in (f"from {face} import {name}", f"import {face} as face; face.{name}"):
        code = (
            f"{BLOCK}import {face}\nfrom fcnkit import MissingExtraError\n"
            f"try: exec({line!r})\nexcept MissingExtraError as error: print(error)"
        )
        assert python(code).strip() == text


def test_names_that_need_no_extra_work_without_it() -> None:
    code = (
        f"{BLOCK}from fcnkit.train import RECIPES, Recipe, data; print(len(RECIPES), data.SHAPES)"
    )
    assert python(code).split()[0].isdigit()


@pytest.fixture
def face_of_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """A package whose one name needs a package that nobody has."""
    (tmp_path / "needs_nothing_real.py").write_text("import no_such_package\nname = 1\n")
    (tmp_path / "asks_for_less.py").write_text("import fcnkit.no_such_module\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    package = ModuleType("one")
    monkeypatch.setitem(sys.modules, "one", package)
    return package


def test_a_missing_package_is_named_where_an_extra_installs_it(face_of_one: ModuleType) -> None:
    load, _ = lazy_face("one", {"needs_nothing_real": "name"}, extra="train")
    text = "one.name: needs the package no_such_package, got no such package; "
    with refusal(MissingExtraError, f"{text}pip install 'fcnkit[train]'"):
        load("name")


def test_a_defect_of_our_own_is_not_taken_for_a_missing_extra(face_of_one: ModuleType) -> None:
    load, _ = lazy_face("one", {"asks_for_less": "name"}, extra="train")
    with pytest.raises(ModuleNotFoundError) as caught:
        load("name")
    assert not isinstance(caught.value, MissingExtraError)
    assert caught.value.name == "fcnkit.no_such_module"


def test_without_an_extra_the_import_error_stays(face_of_one: ModuleType) -> None:
    load, _ = lazy_face("one", {"needs_nothing_real": "name"})
    with pytest.raises(ModuleNotFoundError) as caught:
        load("name")
    assert not isinstance(caught.value, MissingExtraError)
