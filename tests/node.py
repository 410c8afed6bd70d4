"""Packages of npm for tests, installed once into an ignored folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["npm_folder", "run"]

ROOT = Path(__file__).parents[1]


def run(
    *command: object, timeout: float = 300, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command and keep what it prints."""
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env={**os.environ, **environment},
    )


def npm_folder(name: str, packages: tuple[str, ...]) -> Path:
    """Install packages below build, or skip the test with the reason; return their folder.

    Args:
        name: The folder's name.
        packages: Names with versions, ``pngjs@7.0.0``.

    Returns:
        The folder that holds ``node_modules``.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("Node.js is not installed")
    folder = ROOT / "build" / name
    stamp = folder / " ".join(packages).replace("/", "-")
    if stamp.is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    # Without the scripts, which fetch libraries for GPUs from elsewhere.
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-save")
    # A network that swallows everything must not hold up the tests.
    patience = ("--fetch-retries=0", "--fetch-timeout=20000")
    command = (npm, "install", "--prefix", folder, *options, *patience)
    try:
        done = run(*command, *packages, timeout=90)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm could not install {packages[0]}: no answer in 90 s")
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "npm error" in line]
        pytest.skip(f"npm could not install {packages[0]}: {' '.join(lines[:2])}")
    stamp.touch()
    return folder
