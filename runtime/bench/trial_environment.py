"""Throw-away environments with another version of one library, over the environment that runs.

An environment holds the library alone. Everything else comes from the environment of this process,
unless the library asks for other versions of it. Nothing is changed there: pip installs into the
new environment, with the user's own configuration.
"""

from __future__ import annotations

import re
import site
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Final

from fcnkit.errors import BackendUnavailableError, message

__all__ = ["make_environment"]

_UNREACHABLE: Final = re.compile(
    r"connection broken by|Failed to establish a new connection|from versions: none\)|"
    r"name resolution|Network is unreachable"
)
_OFFERED: Final = re.compile(r"\(from versions: ([^)]*)\)")


def make_environment(folder: Path, requirement: str) -> Path:
    """Make an environment with one library in it.

    Args:
        folder: Made here; the caller removes it.
        requirement: The library and its version, such as ``onnxruntime==1.27``.

    Returns:
        The path of its Python.

    Raises:
        BackendUnavailableError: pip cannot install the library.
    """
    venv.create(folder, symlinks=sys.platform != "win32")
    paths = {"base": str(folder), "platbase": str(folder)}
    own = Path(sysconfig.get_path("purelib", "venv", paths))
    # addsitedir and not the bare path: it also reads the .pth files there, as Python does at its
    # start. They come behind the folder that pip installs into.
    lines = [f"import site; site.addsitedir({place!r})" for place in _site_folders()]
    (own / "fcnkit-parent.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    scripts = Path(sysconfig.get_path("scripts", "venv", paths))
    python = scripts / ("python.exe" if sys.platform == "win32" else "python")
    _install(python, requirement)
    return python


def _site_folders() -> list[str]:
    """Return the folders of this environment that hold packages."""
    found = site.getsitepackages()
    if site.ENABLE_USER_SITE:
        found.append(site.getusersitepackages())
    return [place for place in found if Path(place).is_dir()]


def _install(python: Path, requirement: str) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    quiet = ["--disable-pip-version-check", "--no-input", "--quiet"]
    done = subprocess.run(
        [*pip, "install", *quiet, requirement],
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        raise _refused(requirement, done.stderr)


def _refused(requirement: str, said: str) -> BackendUnavailableError:
    """Word what pip says."""
    if "No module named pip" in said:
        rule, remedy = "pip must be installed to try other versions", "run python -m ensurepip"
        return BackendUnavailableError(message(requirement, rule, "no pip", remedy))
    if _UNREACHABLE.search(said):
        rule = "pip must reach a package index, or a folder of wheels, that has the package"
        remedy = "connect, or set PIP_FIND_LINKS to a folder with its wheels"
        return BackendUnavailableError(message(requirement, rule, "none that has it", remedy))
    offered = _OFFERED.search(said)
    if offered:
        rule = "the version must be one that pip finds for this Python"
        last = ", ".join(offered[1].split(", ")[-5:])
        return BackendUnavailableError(
            message(requirement, rule, f"none; the last are {last}", "choose one of them")
        )
    lines = [line for line in said.splitlines() if line.startswith("ERROR:")] or [said or "nothing"]
    rule, remedy = "pip must be able to install it", "try it with pip install in a new environment"
    got = " ".join(lines[-1].removeprefix("ERROR:").split())
    return BackendUnavailableError(message(requirement, rule, got, remedy))
