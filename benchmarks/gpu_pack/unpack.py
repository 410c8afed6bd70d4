"""Unpack a part of the pack on the machine without a network, and show that it loads.

    python3 PACK/a/unpack.py FOLDER && . FOLDER/env.sh && cd FOLDER/project

Needs nothing but Python. Run it again with another part and the same FOLDER to add that part.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

PART = "part.tar.xz"
SHOWN = """
import importlib, sys
print("python", sys.version.split()[0])
for name in ("fcnkit", "onnxruntime", "tensorrt_rtx"):
    try:
        module = importlib.import_module(name)
        print(name, module.__version__, *getattr(module, "get_available_providers", tuple)())
    except ImportError as error:
        print(name, "does not load:", error)
"""


def libraries(site: Path) -> list[str]:
    """Folders where the loader finds what the unpacked libraries need, as far as they are there."""
    installed = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    candidates = [site / "tensorrt_rtx_libs", *sorted(installed.glob("*/lib"))]
    return [str(path) for path in [*candidates, Path("/usr/local/cuda/lib64")] if path.is_dir()]


def environment(folder: Path) -> dict[str, str]:
    """The variables that make the unpacked packages come first."""
    site, project = folder / "site", folder / "project"
    old = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path]
    paths = list(dict.fromkeys([*libraries(site), *old]))
    return {
        "PYTHONPATH": f"{site}:{project}",
        "LD_LIBRARY_PATH": ":".join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python3 unpack.py FOLDER")
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(Path(__file__).with_name(PART), "r:xz") as tar:
        tar.extractall(folder, filter="data")
    variables = environment(folder)
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
    (folder / "env.sh").write_text("".join(lines), encoding="utf-8")
    command = [sys.executable, "-W", "ignore", "-c", SHOWN]
    done = subprocess.run(command, env=os.environ | variables, check=False)
    if done.returncode:
        sys.exit("error: the unpacked packages end Python when they are imported")


if __name__ == "__main__":
    main()
