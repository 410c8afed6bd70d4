"""The table of docs/export.md: what every network, head and precision becomes on this machine.

    python -m benchmarks.export_table ROWS.jsonl [--out docs/export.md] [--networks GLOB]
        [--heads logits,labels,scene] [--precisions fp32,fp16,int8] [--size HxW] [--rounds N]

Each network has fresh weights in which every parameter matters, and is traced once. Every graph is
run against PyTorch by the code that an export runs, on small shapes; timed in ONNX Runtime and in
OpenVINO, each computing in what the file says; and built with TensorRT-RTX. Rows are appended to
ROWS.jsonl as they are made, and those that are there are left alone, so that a run may be stopped
and continued. --out replaces the table between the two markers of that page.

int8 is calibrated on drawn shapes. The file that is measured has uint8 activations; TensorRT-RTX
gets the same graph with symmetric int8 ones, as it parses no others.
"""

from __future__ import annotations

import argparse
import fnmatch
import itertools
import json
import logging
import os
import platform
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fcnkit.errors import FcnkitError
from fcnkit.export.build import Typing, build_graph, head_spec, trace_core
from fcnkit.export.calibration import Calibration, open_calibration, sized_pictures
from fcnkit.export.engine import build_engine
from fcnkit.export.engine_profiles import ProfileRequest
from fcnkit.export.heads import Core
from fcnkit.export.subject import Answer, Subject, open_subject
from fcnkit.export.to_onnx import save_model
from fcnkit.export.verification import verify
from fcnkit.runtime.artifacts.onnx_file import KEPT_KEY
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.backends.base import Backend
from fcnkit.runtime.backends.opening import open_backend
from fcnkit.train.backend import TorchBackend
from fcnkit.train.checkpoint import checkpoint_spec
from fcnkit.train.data.shapes import write_shapes
from fcnkit.train.models import ARCHITECTURES
from tests.train.networks import lively

CLASSES = 21
VERIFY_PIXELS = 64 * 96
BEGIN, END = "<!-- table: python -m benchmarks.export_table -->", "<!-- end of table -->"
HEADER = """\
| network | head | precision | MB | label agreement | largest error | largest margin \
| ONNX Runtime, ms | OpenVINO, ms | TensorRT-RTX |
|---|---|---|---:|---:|---:|---:|---:|---:|---|"""


class Remembering(Subject):
    """A side that is asked the same in many rows."""

    def answer(self, image_nhwc: NDArray[np.uint8]) -> Answer:
        """Answer as before where the pictures are the same."""
        key = (image_nhwc.shape, image_nhwc.tobytes())
        if key not in self.known:
            self.known[key] = super().answer(image_nhwc)
        return self.known[key]

    known: dict[tuple[tuple[int, ...], bytes], Answer]


class Case:
    """One network, traced, with what all its rows share."""

    def __init__(self, architecture: str, calibration: Calibration, folder: Path) -> None:
        names = tuple(f"class{index}" for index in range(CLASSES))
        self.spec = checkpoint_spec(architecture, names, ((0, 0, 0),) * CLASSES)
        self.net = lively(architecture, CLASSES)
        self.core: Core = trace_core(self.net, CLASSES)
        self.calibration, self.folder = calibration, folder
        torch_side = TorchBackend(self.net, self.spec, device=torch.device("cpu"))
        self.source = Remembering(torch_side, name="network", kind="checkpoint", sha256=None)
        self.source.known = {}

    def row(
        self, head: str, precision: str, *, size: tuple[int, int], rounds: int
    ) -> dict[str, Any]:
        """Build, verify, time and hand to TensorRT-RTX."""
        start = time.perf_counter()
        spec = head_spec(self.spec, head, sha256="0", precision=precision)  # type: ignore[arg-type]
        path = self.write(spec, "uint8")
        pictures = sized_pictures(self.calibration) if precision == "int8" else None
        with open_subject(path) as exported:
            report = verify(self.source, exported, pictures=pictures, max_pixels=VERIFY_PIXELS)
            onnxruntime_ms = latency(exported.backend, size, rounds)
        with open_backend(path, backend="openvino", compute="auto") as backend:
            openvino_ms = latency(backend, size, rounds)
            compute = backend.details["compute"]
        difference = report.difference
        row: dict[str, Any] = {
            "network": self.spec.architecture,
            "head": head,
            "precision": precision,
            "bytes": path.stat().st_size,
            "label_agreement": difference.label_agreement,
            "max_error": difference.max_error,
            "max_margin": difference.max_margin,
            "failures": report.failures,
            "size": "x".join(map(str, size)),
            "onnxruntime_ms": onnxruntime_ms,
            "openvino_ms": openvino_ms,
            "openvino_compute": compute,
            "tensorrt_rtx": self.engine(spec if precision != "int8" else None, path, head),
        }
        return {**row, "seconds": time.perf_counter() - start}

    def write(self, spec: ModelSpec, activations: str) -> Path:
        """Write one model."""
        calibration = self.calibration if spec.precision == "int8" else None
        typing = Typing(calibration=calibration, activations=activations)  # type: ignore[arg-type]
        model, kept = build_graph(self.core, spec, typing)
        path = self.folder / "model.onnx"
        save_model(model, spec, path, notes={KEPT_KEY: ", ".join(kept)})
        return path

    def engine(self, spec: ModelSpec | None, path: Path, head: str) -> str:
        """Say what TensorRT-RTX makes of it.

        None stands for int8, which has to be made again with symmetric activations; for one head
        only, as the others hold the same layers.
        """
        if spec is None and head != "labels":
            return "as labels"
        if spec is None:
            plain = head_spec(self.spec, head, sha256="0")  # type: ignore[arg-type]
            spec = replace(plain, precision="int8")
            path = self.write(spec, "int8")
        profile = ProfileRequest(min=(1, 32, 32), opt=(1, 128, 192), max=(1, 256, 256))
        start = time.perf_counter()
        try:
            out = path.with_suffix(".engine")
            report = build_engine(path, out, flavor="tensorrt-rtx", profiles=[profile])
        except FcnkitError as error:
            return f"refused: {' '.join(str(error).partition(', got ')[2].split())[:120]}"
        return f"{report.bytes / 1e6:.0f} MB in {time.perf_counter() - start:.1f} s"


def latency(backend: Backend, size: tuple[int, int], rounds: int) -> float:
    """Return the median time of one call in milliseconds, after one that does not count."""
    given = backend.spec.input
    shape = {"N": 1, "C": 3, "H": size[0], "W": size[1]}
    axes = [shape[axis] for axis in given.layout]
    image = np.random.default_rng(0).integers(0, 256, axes).astype(given.dtype)
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        backend.infer(image)
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[1:])


def make_rows(options: argparse.Namespace) -> None:
    """Append the rows that are missing."""
    there = {(r["network"], r["head"], r["precision"]) for r in read_rows(options.rows)}
    height, width = map(int, options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        write_shapes(Path(folder) / "shapes", train=16, val=1, seed=0)
        # The drawn pictures have no second split to speak of.
        calibration = replace(open_calibration(Path(folder) / "shapes"), held_out=None)
        for architecture in fnmatch.filter(ARCHITECTURES, options.networks):
            pairs = itertools.product(options.heads.split(","), options.precisions.split(","))
            missing = [pair for pair in pairs if (architecture, *pair) not in there]
            case = Case(architecture, calibration, Path(folder)) if missing else None
            for head, precision in missing:
                assert case is not None
                row = case.row(head, precision, size=(height, width), rounds=options.rounds)
                with options.rows.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(f"{architecture} {head} {precision}: {row['seconds']:.1f} s", flush=True)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read what was written so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown, in the order of the family."""
    order = {name: place for place, name in enumerate(ARCHITECTURES)}
    lines = [HEADER]
    for row in sorted(rows, key=lambda r: order[r["network"]]):
        error = "" if row["max_error"] is None else f"{row['max_error']:.0e}"
        verdict = "" if not row["failures"] else " (out of tolerance)"
        lines.append(
            f"| `{row['network']}` | {row['head']} | {row['precision']} "
            f"| {row['bytes'] / 1e6:.1f} | {100 * row['label_agreement']:.2f} %{verdict} | {error} "
            f"| {row['max_margin']:.0e} | {row['onnxruntime_ms']:.1f} | {row['openvino_ms']:.1f} "
            f"| {row['tensorrt_rtx']} |"
        )
    seconds = sum(row["seconds"] for row in rows)
    sizes = ", ".join(sorted({row["size"] for row in rows}))
    computes = ", ".join(sorted({row["openvino_compute"] for row in rows}))
    lines += [
        "",
        f"{len(rows)} rows in {seconds / 60:.0f} minutes on {cpu_name()}, {os.cpu_count()} cores; "
        f"latency of one picture of {sizes}; OpenVINO computed in {computes}.",
    ]
    return "\n".join(lines)


def cpu_name() -> str:
    """Return what the CPU calls itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def put_into(page: Path, text: str) -> None:
    """Replace what stands between the markers of a page."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page} must hold the lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Make the rows, then the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--networks", default="*")
    parser.add_argument("--heads", default="logits,labels,scene")
    parser.add_argument("--precisions", default="fp32,fp16,int8")
    parser.add_argument("--size", default="128x192")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    logging.getLogger("fcnkit").setLevel(logging.CRITICAL)
    make_rows(options)
    text = table(read_rows(options.rows))
    if options.out:
        put_into(options.out, text)
    else:
        print(text)


if __name__ == "__main__":
    main()
