"""A page in headless Chromium: what the console said, and what it looks like."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def open_page(page: Path, profile: Path, *, screenshot: Path) -> list[str]:
    """Open a file and take its picture.

    Args:
        page: The HTML file.
        profile: A folder that does not exist yet.
        screenshot: The PNG to write.

    Returns:
        What pages and their resources wrote to the console.
    """
    program = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip("Chromium is not installed")
    quiet = ("quic", "background-networking", "component-update", "sync", "gpu")
    done = subprocess.run(
        [
            program,
            "--headless",
            "--no-sandbox",
            "--no-first-run",
            *(f"--disable-{name}" for name in quiet),
            f"--user-data-dir={profile}",
            "--enable-logging=stderr",
            "--v=0",
            "--hide-scrollbars",
            "--window-size=1200,3000",
            f"--screenshot={screenshot}",
            page.resolve().as_uri(),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    # [pid:tid:time:INFO:CONSOLE:line] "text", source: ... (the separator differs by version)
    return [line for line in done.stderr.splitlines() if re.search(r"\bCONSOLE\b", line)]
