from __future__ import annotations

import subprocess
import sys

import pytest

BLOCKED = ("torch", "torchvision", "onnx", "onnxruntime", "matplotlib")


@pytest.mark.parametrize("name", ["voc", "pictures", "labelmap", "shapes", "download", "check"])
def test_data_modules_need_no_torch(name: str) -> None:
    code = f"import sys; sys.modules.update(dict.fromkeys({BLOCKED})); import fcnkit.train.{name}"
    subprocess.run([sys.executable, "-c", code], check=True)
