"""The code of docs/clients.md, run by clients that no one here wrote, gives fcnkit's labels."""

from __future__ import annotations

import os
import re
import runpy
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import fcnkit
from tests.node import npm_folder, run

ROOT = Path(__file__).parents[2]
NODE_PACKAGES = ("onnxruntime-node@1.30.0", "pngjs@7.0.0")
SAME = 0.9999
"""Share of pixels with fcnkit's label: another library adds up in another order."""


def code(name: str) -> str:
    """The block of the page under the comment that names it."""
    page = (ROOT / "docs" / "clients.md").read_text("utf-8")
    found = re.search(rf"<!-- {re.escape(name)} -->\n```\w+\n(.*?)```\n", page, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def picture(shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture whose sides are odd and no multiples of 32, as PNG, and as PPM beside it."""
    source = next(iter(sorted((shapes_folder / "JPEGImages").iterdir())))
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    with Image.open(source) as image:
        cut = image.convert("RGB").crop((1, 2, image.width, image.height - 1))
    assert all(side % 32 for side in cut.size)
    cut.save(path)
    cut.save(path.with_suffix(".ppm"))
    return path


class Example(NamedTuple):
    """A model, a picture, and the labels that fcnkit gives."""

    model: Path
    picture: Path
    labels_hw: NDArray[np.uint8]


@pytest.fixture(scope="module")
def example(picture: Path, exported: dict[str, Path]) -> Example:
    """The picture with fcnkit's labels."""
    with Image.open(picture) as image, fcnkit.load(exported["scene"]) as segmenter:
        labels_hw = segmenter(np.asarray(image))
    assert len(np.unique(labels_hw)) > 1
    return Example(exported["scene"], picture, labels_hw)


def same(labels: bytes | NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    got = np.frombuffer(labels, np.uint8) if isinstance(labels, bytes) else labels.ravel()
    assert got.dtype == np.uint8
    assert got.size == expected.size
    assert (got == expected.ravel()).mean() >= SAME


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The npm packages, installed once into the ignored folder build."""
    return npm_folder("clients", NODE_PACKAGES) / "node_modules"


def test_onnxruntime_node(node_modules: Path, example: Example, tmp_path: Path) -> None:
    script = tmp_path / "client.js"
    script.write_text(
        code("segment.js")
        + """
const [model, picture, out] = process.argv.slice(2);
segment(model, picture).then((labels) => {
  fs.writeFileSync(out, labels.data);
  console.log(JSON.stringify([labels.type, ...labels.dims]));
});
"""
    )
    out = tmp_path / "labels.bin"
    modules = str(node_modules)
    done = run("node", script, example.model, example.picture, out, NODE_PATH=modules)
    assert done.returncode == 0, done.stderr
    height, width = example.labels_hw.shape
    assert done.stdout.strip() == f'["uint8",1,{height},{width}]'
    same(out.read_bytes(), example.labels_hw)


def test_openvino(example: Example, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    script = tmp_path / "client.py"
    script.write_text(code("segment.py"))
    labels_hw = runpy.run_path(str(script))["segment"](example.model, example.picture)
    assert labels_hw.shape == example.labels_hw.shape
    same(labels_hw, example.labels_hw)


def build(folder: Path, header: str, *options: object) -> Path:
    """Compile the page's function with a main around it."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler is installed")
    (folder / "segment.hpp").write_text(code(header))
    out = folder / "client"
    source = Path(__file__).parent / "main.cpp"
    done = run(compiler, "-std=c++17", "-Wall", source, "-I", folder, *options, "-o", out)
    assert done.returncode == 0, done.stderr
    return out


def run_client(client: Path, example: Example) -> None:
    out = client.with_name("labels.bin")
    done = run(client, example.model, example.picture.with_suffix(".ppm"), out)
    assert done.returncode == 0, done.stderr
    same(out.read_bytes(), example.labels_hw)


def test_cpp_with_openvino(example: Example, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    home = Path(openvino.__file__).parent
    libraries = sorted((home / "libs").glob("libopenvino.so*"))
    if not libraries or not (home / "include" / "openvino" / "openvino.hpp").is_file():
        pytest.skip("this OpenVINO package has no C++ headers")
    options = ("-isystem", home / "include", libraries[0], f"-Wl,-rpath,{home / 'libs'}")
    client = build(tmp_path, "openvino.hpp", *options)
    run_client(client, example)


def test_cpp_with_onnxruntime(node_modules: Path, example: Example, tmp_path: Path) -> None:
    include = Path(os.environ.get("ONNXRUNTIME_INCLUDE", "/usr/include/onnxruntime"))
    if not (include / "onnxruntime_cxx_api.h").is_file():
        pytest.skip("no C++ headers of ONNX Runtime; ONNXRUNTIME_INCLUDE names their folder")
    libraries = list((node_modules / "onnxruntime-node").glob("bin/*/linux/x64/libonnx*.so.1"))
    if not libraries:
        pytest.skip("onnxruntime-node has no library for this machine")
    options = ("-isystem", include, libraries[0], f"-Wl,-rpath,{libraries[0].parent}")
    client = build(tmp_path, "onnxruntime.hpp", *options)
    run_client(client, example)
