"""Which module may import which, and what must not be loaded by importing it.

Every import statement counts, also those in functions and those for type checkers.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from fcnkit.runtime.backends.registry import BACKENDS

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "src/fcnkit": "fcnkit",
    "runtime": "fcnkit.runtime",
    "train": "fcnkit.train",
    "export": "fcnkit.export",
}
"""Each source folder and the package that it becomes."""
FACES = {
    "fcnkit",
    "fcnkit.runtime",
    "fcnkit.runtime.bench",
    "fcnkit.train",
    "fcnkit.train.data",
    "fcnkit.export",
    "fcnkit.export.adopt",
}
LIBRARIES = {row.module for row in BACKENDS.values()}
HEAVY = (*sorted(LIBRARIES), "torchvision", "onnx", "matplotlib")
BLOCK = f"import sys; sys.modules.update(dict.fromkeys({HEAVY!r}))\n"


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the package by its name, the compiled one by its stub."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((root / folder).rglob("*.py*")):
            if path.suffix in (".py", ".pyi"):
                parts = path.relative_to(root / folder).with_suffix("").parts
                found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imported(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """Return the modules of the package that a module imports anywhere."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in known else base)
    return {target for target in found if target.split(".")[0] == "fcnkit"} & set(known)


def graph(known: dict[str, Path]) -> dict[str, set[str]]:
    return {name: imported(name, path, known) for name, path in known.items()}


GRAPH = graph(MODULES)


def cycle(of: dict[str, set[str]]) -> list[str]:
    """Return the modules of one import cycle, nothing where there is none."""
    try:
        TopologicalSorter(of).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_the_tree_is_read_whole() -> None:
    assert len(MODULES) > 120
    assert sum(map(len, GRAPH.values())) > 400
    assert "fcnkit.runtime.pixels._kernels" in GRAPH["fcnkit.runtime.pixels.tiling"]
    assert "fcnkit.train.models" in GRAPH["fcnkit.train.frozen"]


def test_there_is_no_import_cycle() -> None:
    assert cycle(GRAPH) == []


def package_tree(root: Path, **texts: str) -> dict[str, set[str]]:
    """Write modules of ``runtime``, by name, and return their graph."""
    (root / "runtime").mkdir()
    for name, text in texts.items():
        (root / "runtime" / f"{name}.py").write_text(text, encoding="utf-8")
    return graph(modules(root))


@pytest.mark.parametrize(
    "back",
    [
        "import fcnkit.runtime.a",
        "from fcnkit.runtime import a",
        "from fcnkit.runtime.a import name",
        "from . import a",
        "from .a import name",
        "def f():\n    from fcnkit.runtime import a",
        "if TYPE_CHECKING:\n    from fcnkit.runtime.a import name",
    ],
)
def test_a_cycle_of_any_form_is_found(tmp_path: Path, back: str) -> None:
    of = package_tree(tmp_path, a="from fcnkit.runtime.b import name", b=back)
    assert set(cycle(of)) == {"fcnkit.runtime.a", "fcnkit.runtime.b"}


ALLOWED = {
    "fcnkit.runtime": {"fcnkit.runtime", "fcnkit.errors", "fcnkit.faces"},
    "fcnkit.train": {"fcnkit.train", "fcnkit.runtime", "fcnkit.errors", "fcnkit.faces"},
    "fcnkit.export": {
        "fcnkit.export",
        "fcnkit.train",
        "fcnkit.runtime",
        "fcnkit.errors",
        "fcnkit.faces",
    },
}


def stage(name: str) -> str:
    """The first two parts of a module's name."""
    return ".".join(name.split(".")[:2])


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_between_the_stages_go_one_way(package: str) -> None:
    # python -m fcnkit.train starts the command line, which is above every stage.
    names = [n for n in GRAPH if stage(n) == package and not n.endswith("__main__")]
    assert names
    wrong = {
        (name, target)
        for name in names
        for target in GRAPH[name]
        if stage(target) not in ALLOWED[package]
    }
    assert wrong == set()


LAYERS = ("artifacts", "pixels", "backends", "predict", "bench")
"""The packages of ``fcnkit.runtime``, lowest first; its single modules lie below all of them."""


def layer(name: str) -> int:
    part = name.removeprefix("fcnkit.runtime.").split(".")[0]
    return LAYERS.index(part) if part in LAYERS else -1


def test_the_layers_of_the_runtime_are_these() -> None:
    packages = {p.parent.name for p in (ROOT / "runtime").glob("*/__init__.py")}
    assert packages == set(LAYERS)


def test_imports_inside_the_runtime_go_down() -> None:
    inside = {n: targets for n, targets in GRAPH.items() if n.startswith("fcnkit.runtime.")}
    upward = {
        (name, target)
        for name, targets in inside.items()
        for target in targets
        if target.startswith("fcnkit.runtime.") and layer(target) > layer(name)
    }
    assert upward == set()


def test_nothing_inside_a_package_imports_its_face() -> None:
    # A face stands above its modules. Code in another package may use it.
    wrong = {
        (name, face)
        for name, targets in GRAPH.items()
        for face in targets & FACES
        if name.startswith(f"{face}.") and not name.startswith("fcnkit.cli")
    }
    assert wrong == set()


def test_nothing_imports_a_main_module() -> None:
    assert [name for name, targets in GRAPH.items() if "fcnkit.train.__main__" in targets] == []


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT.parent
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("package", ["fcnkit.runtime", "fcnkit.train.data"])
def test_every_module_imports_without_the_heavy_libraries(package: str) -> None:
    inside = [name for name in MODULES if f"{name}.".startswith(f"{package}.")]
    names = [name for name in inside if MODULES[name].suffix == ".py"]
    assert len(names) > 5
    python(f"{BLOCK}import importlib\nfor name in {names}: importlib.import_module(name)")


def test_the_command_line_loads_no_heavy_library() -> None:
    code = (
        "import sys, fcnkit.cli\n"
        "sys.argv = ['fcnkit', '--help']\n"
        "try: fcnkit.cli.main()\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    assert python(code).splitlines()[-1] == "[]"


def heavy_at_the_top(path: Path) -> set[str]:
    """Heavy libraries that importing a file imports: all but those inside functions and checks."""
    tops: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body
    names = {alias.name for node in tops if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in tops if isinstance(node, ast.ImportFrom)}
    return {name for name in names if name.split(".")[0] in HEAVY}


@pytest.mark.parametrize("folder", ["runtime", "src/fcnkit"])
def test_no_heavy_import_at_the_top(folder: str) -> None:
    for path in sorted((ROOT / folder).rglob("*.py")):
        assert not heavy_at_the_top(path), path
