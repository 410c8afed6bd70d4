from __future__ import annotations

import subprocess
import sys

BLOCKED = ("torch", "torchvision", "onnx", "onnxruntime", "matplotlib")
MODULES = ("check", "download", "drawing", "labelmap", "masks", "shapes", "voc")


def test_data_modules_need_no_torch() -> None:
    block = f"import sys; sys.modules.update(dict.fromkeys({BLOCKED}))"
    imports = ", ".join(f"fcnkit.train.data.{name}" for name in MODULES)
    subprocess.run([sys.executable, "-c", f"{block}; import {imports}"], check=True)
