"""The rules of the house about imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "torchvision", "onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx")
BLOCK = f"import sys; sys.modules.update(dict.fromkeys({HEAVY!r}))\n"


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT.parent
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules(folder: str) -> list[str]:
    """Names of all modules of a folder under fcnkit."""
    files = sorted((ROOT / folder).rglob("*.py"))
    parts = [path.relative_to(ROOT).with_suffix("").parts for path in files]
    return [".".join(("fcnkit", *part)).removesuffix(".__init__") for part in parts]


def test_every_runtime_module_imports_without_the_heavy_libraries() -> None:
    names = modules("runtime")
    assert "fcnkit.runtime.backends.onnxruntime" in names
    code = f"{BLOCK}import importlib\nfor name in {names}: importlib.import_module(name)"
    python(f"{code}\nimport fcnkit, fcnkit.runtime; print('fine')")


def test_importing_the_runtime_loads_no_heavy_library() -> None:
    code = f"import sys, fcnkit, fcnkit.runtime; print([m for m in {HEAVY} if m in sys.modules])"
    assert python(code).strip() == "[]"


def test_the_command_line_loads_no_heavy_library() -> None:
    code = (
        "import sys, fcnkit.cli\n"
        "sys.argv = ['fcnkit', '--help']\n"
        "try: fcnkit.cli.main()\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        f"print([m for m in {(*HEAVY, 'matplotlib')} if m in sys.modules])"
    )
    assert python(code).splitlines()[-1] == "[]"


def imported(path: Path) -> set[str]:
    """Names of the modules that a file imports anywhere, relative ones spelled out."""
    package = path.relative_to(ROOT).parts[:-1]
    package = package[1:] if package[0] == "src" else ("fcnkit", *package)
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*up, *([node.module] if node.module else [])))
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


ALLOWED = {
    "runtime": ("runtime", "errors", "faces"),
    "train": ("train", "runtime", "errors", "faces"),
    "export": ("export", "train", "runtime", "errors", "faces"),
}


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_go_one_way(folder: str) -> None:
    # A __main__.py is no module of its folder but a door to the command line, which is on top of
    # all of them; nothing can import it.
    files = [path for path in (ROOT / folder).rglob("*.py") if path.name != "__main__.py"]
    assert files
    for path in sorted(files):
        inner = {name for name in imported(path) if name.split(".")[0] == "fcnkit"}
        wrong = {name for name in inner if name.split(".")[1] not in ALLOWED[folder]}
        assert not wrong, f"{path} imports {wrong}"


def test_nothing_imports_a_door() -> None:
    files = [path for folder in (*ALLOWED, "src") for path in (ROOT / folder).rglob("*.py")]
    assert [path for path in files if any("__main__" in name for name in imported(path))] == []


def test_the_direction_test_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "runtime").mkdir()
    for text in ("import fcnkit.train", "from fcnkit import train", "from ..train import loop"):
        (tmp_path / "runtime" / "a.py").write_text(f"def f():\n    {text}\n")
        assert any(name.startswith("fcnkit.train") for name in imported(tmp_path / "runtime/a.py"))


def heavy_at_the_top(path: Path) -> set[str]:
    """Heavy libraries that importing a file imports: all but those inside functions and checks."""
    tops: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body
    names = {alias.name for node in tops if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in tops if isinstance(node, ast.ImportFrom)}
    light = {name for name in names if name.split(".")[0] not in (*HEAVY, "matplotlib")}
    return names - light


@pytest.mark.parametrize("folder", ["runtime", "src/fcnkit"])
def test_no_heavy_import_at_the_top(folder: str) -> None:
    for path in sorted((ROOT / folder).rglob("*.py")):
        assert not heavy_at_the_top(path), path
