"""A web page that runs a model in the browser of its visitor.

The page is a folder of plain files. ``page`` beside this module holds those that never change.
``model.json`` has what they must know of the model, with the hash of every file that the page
loads: a browser refuses a file with another hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime

from fcnkit.errors import ArtifactError, BadValueError, ModelWarning, VerifyError, message
from fcnkit.export.web_graph import fill_channels
from fcnkit.runtime.artifacts.description import kind_of
from fcnkit.runtime.artifacts.onnx_file import read_onnx_file
from fcnkit.runtime.artifacts.spec import ModelSpec, format_shape
from fcnkit.runtime.backends.base import nearest_legal
from fcnkit.runtime.pixels.palette import readable_palette
from fcnkit.train.data.beside import new_folder

__all__ = ["ORT_VERSION", "WebReport", "write_web_page"]

ORT_VERSION: Final = "1.30.0"
"""Version of onnxruntime-web that the pages load."""

_ADDRESS: Final = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{ORT_VERSION}/dist/"
_HASHES: Final = {
    "ort.wasm.min.js": "Bw6URI+Gvoadw0do7/QrSHUC9D1vCYYK5OSqChFyhyV5mzPL4oe2rOAFljAnS8Sq",
    "ort-wasm-simd-threaded.mjs": (
        "XcXA/MtAf0WpB8e023xQH9CM7RIjiugakT7x99DIwpFf7k56BIFFcAPerIF7FDad"
    ),
    "ort-wasm-simd-threaded.wasm": (
        "vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM"
    ),
    "ort.webgpu.min.js": "6BOUZhMpgaXRZBIj89pTWET0c7xcMe1yHACreuaBy2kUZwLd2tzCmv7MzwZccHYH",
    "ort-wasm-simd-threaded.asyncify.mjs": (
        "qViEcCGzsR/m8nlQwIsbYh7afN4thuraqFYDQY6huvmoLVoZq/eYawQ1wrv8nnhA"
    ),
    "ort-wasm-simd-threaded.asyncify.wasm": (
        "EPVDLTxuO663dkZO/pcKJF6vOyyfq/5z9FY1oksN0UWFX2ABH4wDDZQHeNoUleWR"
    ),
}
"""SHA-384 of the files of that version, in base64."""
_BYTES: Final = {
    "ort.wasm.min.js": 50_196,
    "ort-wasm-simd-threaded.mjs": 24_381,
    "ort-wasm-simd-threaded.wasm": 14_239_897,
    "ort.webgpu.min.js": 66_417,
    "ort-wasm-simd-threaded.asyncify.mjs": 53_057,
    "ort-wasm-simd-threaded.asyncify.wasm": 26_781_914,
}

_RUNTIMES: Final = {
    "wasm": ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    "webgpu": (
        "ort.webgpu.min.js",
        "ort-wasm-simd-threaded.asyncify.mjs",
        "ort-wasm-simd-threaded.asyncify.wasm",
    ),
}
"""Script, glue and binary of each build; only browsers with WebGPU load the second one."""


@dataclass(frozen=True, kw_only=True)
class WebReport:
    """What was written."""

    folder: Path
    """The page's folder."""
    runtime: str
    """The folder or address that the page loads onnxruntime-web from."""
    bytes: int
    """Size of the folder."""


def write_web_page(model: Path, out: Path, *, ort: Path | None = None) -> WebReport:
    """Write a folder of static files: a page that labels pictures in the browser.

    Args:
        model: An .onnx file with head ``scene`` or ``labels``.
        out: The folder to be, new or empty.
        ort: A folder into which npm installed onnxruntime-web. Its files are copied, and the page
            works offline. By default the page loads them from a public address.

    Returns:
        What was written.

    Warns:
        ModelWarning: The model reads files in a way that a browser does not.

    Raises:
        ArtifactError: The model is broken, or of a kind or head that a page cannot run.
        DataError: out holds something.
        VerifyError: The graph for browsers gives other labels.
        ValueError: ort does not hold the files of the version ``ORT_VERSION``.
    """
    spec = _spec_of(model)
    sources = None if ort is None else _runtime_files(ort)
    with new_folder(out) as folder:
        for path in sorted((Path(__file__).parent / "page").iterdir()):
            shutil.copyfile(path, folder / path.name)
        _copy_model(model, folder / "model.onnx", spec)
        if sources is not None:
            (folder / "ort").mkdir()
            for path in sources:
                shutil.copyfile(path, folder / "ort" / path.name)
        address = _ADDRESS if sources is None else "ort/"
        facts = _facts(spec, model.stem, folder / "model.onnx", address)
        (folder / "model.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    for given, read in _differences(spec):
        rule, got = f"a page gives the model {given}", f"a model that reads {read}"
        text = message(str(model), rule, got, "label such files with fcnkit predict")
        warnings.warn(text, ModelWarning, stacklevel=2)
    return WebReport(folder=out, runtime=address, bytes=size)


def _spec_of(model: Path) -> ModelSpec:
    kind = kind_of(model)
    if kind != "onnx":
        remedy = {
            "checkpoint": "write one with fcnkit export onnx --head scene",
            "engine": "give the ONNX file that it was built from",
        }[kind]
        raise ArtifactError(message(str(model), "a page runs an ONNX file", kind, remedy))
    spec = read_onnx_file(model).spec(where=str(model))
    if spec.head not in ("scene", "labels"):
        rule, remedy = "a page needs head scene or labels", "export it again with --head scene"
        raise ArtifactError(message(str(model), rule, spec.head, remedy))
    if spec.shapes.min[0] > 1:
        got, rule = format_shape(spec.shapes.min), "a page gives the model one picture at a time"
        remedy = "export it again with --head scene, or with a --shape of one picture"
        raise ArtifactError(message(str(model), rule, f"a model for {got} and more", remedy))
    return spec


def _differences(spec: ModelSpec) -> list[tuple[str, str]]:
    """Return what a browser gives of a file, and what the model reads of it instead."""
    found = []
    if spec.range is not None:
        low, high = spec.range
        found.append(("8 bits per sample", f"{low}..{high} of larger samples"))
    if spec.bands not in (None, (1, 2, 3)):
        found.append(("red, green and blue", "samples {}, {} and {}".format(*spec.bands)))
    return found


_TEST_SHAPE: Final = (1, 97, 131)
"""Of the picture that compares WebGPU with WebAssembly; a graph for any size cuts it into four."""
_SAME: Final = 0.9999
"""Share of labels that sums in another order may leave, at ties of two classes."""


def _copy_model(model: Path, target: Path, spec: ModelSpec) -> None:
    """Write the graph for browsers, after a comparison with the given one."""
    graph = onnx.load(model)
    if not fill_channels(graph):
        shutil.copyfile(model, target)
        return
    onnx.save(graph, target)
    shape = nearest_legal(_TEST_SHAPE, spec)
    image_nhwc = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    before, after = (
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
            [spec.output.name], {spec.input.name: image_nhwc}
        )[0]
        for path in (model, target)
    )
    same = float((before == after).mean())
    if same < _SAME:
        rule = f"the graph for browsers must give {_SAME:.2%} of the labels"
        remedy = "report it with the model, as a defect of fcnkit"
        raise VerifyError(message(str(model), rule, f"{same:.2%}", remedy))


def _runtime_files(ort: Path) -> list[Path]:
    """Find the files of onnxruntime-web in a folder of npm, and compare them with their hashes."""
    rule = f"must hold onnxruntime-web {ORT_VERSION}"
    remedy = f"run npm install onnxruntime-web@{ORT_VERSION} there"
    places = (ort / "node_modules" / "onnxruntime-web", ort / "onnxruntime-web", ort)
    home = next((place for place in places if (place / "dist").is_dir()), None)
    if home is None:
        raise BadValueError(message("--ort", rule, f"{ort} without it", remedy))
    paths = [home / "dist" / name for name in _HASHES]
    for path in paths:
        if not path.is_file() or _digest(path, "sha384") != _HASHES[path.name]:
            raise BadValueError(message("--ort", rule, f"another version of {path}", remedy))
    return paths


def _digest(path: Path, name: str) -> str:
    with path.open("rb") as file:
        return base64.b64encode(hashlib.file_digest(file, name).digest()).decode()


_MOST_PIXELS: Final = 1_000_000
"""Larger pictures are scaled down: one thread of WebAssembly takes seconds for as many."""


def _facts(spec: ModelSpec, name: str, model: Path, address: str) -> dict[str, Any]:
    """Collect what the scripts of the page read."""

    def runtime_file(name: str) -> dict[str, Any]:
        integrity = f"sha384-{_HASHES[name]}"
        return {"url": address + name, "integrity": integrity, "bytes": _BYTES[name]}

    roles = ("script", "glue", "binary")
    runtime = {
        build: dict(zip(roles, map(runtime_file, names), strict=True))
        for build, names in _RUNTIMES.items()
    }
    integrity = f"sha256-{_digest(model, 'sha256')}"
    return {
        "name": name,
        "model": {"url": model.name, "integrity": integrity, "bytes": model.stat().st_size},
        "runtime": runtime,
        "input": spec.input.name,
        "output": spec.output.name,
        "low": spec.shapes.min[1:],
        "high": spec.shapes.max[1:],
        "multiple": spec.input.multiple,
        "most": _MOST_PIXELS,
        "test": nearest_legal(_TEST_SHAPE, spec)[1:],
        "classes": spec.classes,
        "colors": readable_palette(spec.palette).tolist(),
        "notes": [
            f"This page gives the model {given}. The model reads {read}."
            for given, read in _differences(spec)
        ],
    }
