"""The table behind docs/export.md: every network, head and precision, exported on this machine.

    python -m benchmarks.export_table ROWS.jsonl [--out docs/export.md] [--networks GLOB]
        [--heads logits,labels,scene] [--precisions fp32,fp16,int8] [--size HxW] [--rounds N]

Each network has fresh weights that all influence the result, and is traced once. Every graph is
compared with PyTorch by the code of a real export, on small shapes. It is timed in ONNX Runtime and
in OpenVINO, which compute in the precision of the file. It is built with TensorRT-RTX. Each row is
appended to ROWS.jsonl when it is ready. Rows that exist are kept, so a run can be stopped and
continued.

--out writes all rows to export.csv beside the page, and a summary between two markers of the page.
Without it, both are printed.

int8 is calibrated on drawn shapes. The measured file has uint8 activations. TensorRT-RTX gets the
same graph with symmetric int8 activations, because it parses no others.
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

from benchmarks.markdown import Place, write_rows
from fcnkit.errors import FcnkitError
from fcnkit.export.build import Typing, build_graph, head_spec, trace_core
from fcnkit.export.calibration import Calibration, open_calibration, sized_pictures
from fcnkit.export.engine import build_engine
from fcnkit.export.engine_profiles import ProfileRequest
from fcnkit.export.heads import Core
from fcnkit.export.saving import save_model
from fcnkit.export.subject import Answer, Subject, open_subject
from fcnkit.export.verification import verify
from fcnkit.runtime.artifacts.onnx_file import KEPT_KEY
from fcnkit.runtime.artifacts.precisions import PRECISIONS
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
PLACE = Place(
    "export.csv", "<!-- summary: python -m benchmarks.export_table -->", "<!-- end of summary -->"
)


class Remembering(Subject):
    """The PyTorch side of the comparison, with its answers kept for later rows."""

    def answer(self, image_nhwc: NDArray[np.uint8]) -> Answer:
        """Return the kept answer if these images were given before."""
        key = (image_nhwc.shape, image_nhwc.tobytes())
        if key not in self.known:
            self.known[key] = super().answer(image_nhwc)
        return self.known[key]

    known: dict[tuple[tuple[int, ...], bytes], Answer]


class Case:
    """One traced network, with everything that its rows share."""

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
        """Export, verify and time one graph, and build its engine."""
        start = time.perf_counter()
        spec = head_spec(self.spec, head, sha256="0", precision=precision)  # type: ignore[arg-type]
        path = self.write(spec, "uint8")
        quantized = PRECISIONS[spec.precision].quantized
        pictures = sized_pictures(self.calibration, self.spec) if quantized else None
        with open_subject(path) as exported:
            report = verify(self.source, exported, pictures=pictures, max_pixels=VERIFY_PIXELS)
            onnxruntime_ms = latency(exported.backend, size, rounds)
        with open_backend(path, backend="openvino", compute="auto") as backend:
            openvino_ms = latency(backend, size, rounds)
            compute = backend.info.precision
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
            "tensorrt_rtx": self.engine(None if quantized else spec, path, head),
        }
        return {**row, "seconds": time.perf_counter() - start}

    def write(self, spec: ModelSpec, activations: str) -> Path:
        """Write one model."""
        typing = Typing(calibration=self.calibration, activations=activations)  # type: ignore[arg-type]
        model, kept = build_graph(self.core, spec, typing)
        path = self.folder / "model.onnx"
        save_model(model, spec, path, notes={KEPT_KEY: ", ".join(kept)})
        return path

    def engine(self, spec: ModelSpec | None, path: Path, head: str) -> str:
        """Build an engine with TensorRT-RTX and return its size and time, or the refusal.

        None stands for int8. Its graph is exported again with symmetric activations. Only the head
        labels is built, because the other heads hold the same layers.
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
            return f"refused: {error.got[:120]}"
        return f"{report.bytes / 1e6:.0f} MB in {time.perf_counter() - start:.1f} s"


def latency(backend: Backend, size: tuple[int, int], rounds: int) -> float:
    """Return the median time of a call in milliseconds, without the first call."""
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
    """Measure the rows that ROWS.jsonl lacks and append them."""
    there = {(r["network"], r["head"], r["precision"]) for r in read_rows(options.rows)}
    height, width = map(int, options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        write_shapes(Path(folder) / "shapes", train=16, val=1, seed=0)
        # The drawn images have no second split of a useful size.
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
    """Return the rows that ROWS.jsonl holds."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort the rows by network, in the order of the registry."""
    order = {name: place for place, name in enumerate(ARCHITECTURES)}
    return sorted(rows, key=lambda row: order[row["network"]])


def cells(row: dict[str, Any]) -> dict[str, str]:
    """Return one row as the CSV file has it."""
    return {
        "network": row["network"],
        "head": row["head"],
        "precision": row["precision"],
        "megabytes": f"{row['bytes'] / 1e6:.1f}",
        "label_agreement_percent": f"{100 * row['label_agreement']:.2f}",
        "within_tolerance": "no" if row["failures"] else "yes",
        "largest_error": "" if row["max_error"] is None else f"{row['max_error']:.0e}",
        "largest_margin": f"{row['max_margin']:.0e}",
        "onnxruntime_ms": f"{row['onnxruntime_ms']:.1f}",
        "openvino_ms": f"{row['openvino_ms']:.1f}",
        "tensorrt_rtx": row["tensorrt_rtx"],
    }


def values(rows: list[dict[str, Any]], key: str) -> list[str]:
    """Return the different values of a column, in the order in which they first appear."""
    return list(dict.fromkeys(row[key] for row in rows))


def summary(rows: list[dict[str, Any]]) -> str:
    """Return three lines of Markdown about all rows."""
    lowest = {
        precision: min(r["label_agreement"] for r in rows if r["precision"] == precision)
        for precision in values(rows, "precision")
    }
    agreement = ", ".join(f"{name} {100 * share:.2f} %" for name, share in lowest.items())
    failed = sum(bool(row["failures"]) for row in rows)
    refused = sum(row["tensorrt_rtx"].startswith("refused") for row in rows)
    heads, computes = values(rows, "head"), sorted(values(rows, "openvino_compute"))
    minutes = sum(row["seconds"] for row in rows) / 60
    return "\n".join(
        [
            f"- {len(rows)} rows: {len(values(rows, 'network'))} networks, heads "
            f"{', '.join(heads)}, precisions {', '.join(lowest)}. All rows: "
            f"[{PLACE.csv_name}]({PLACE.csv_name}).",
            f"- Lowest label agreement: {agreement}. Out of tolerance: {failed} rows. Refused by "
            f"TensorRT-RTX: {refused} rows.",
            f"- Measured in {minutes:.0f} minutes on {cpu_name()}, {os.cpu_count()} cores. Times "
            f"are for one image of {', '.join(values(rows, 'size'))}. OpenVINO computed in "
            f"{', '.join(computes)}.",
        ]
    )


def cpu_name() -> str:
    """Return the name of the CPU."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    """Make the rows, then the CSV file and the summary."""
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
    rows = in_order(read_rows(options.rows))
    if not rows:
        raise SystemExit(f"--networks must match a network, got {options.networks}")
    write_rows([cells(row) for row in rows], summary(rows), options.out, PLACE)


if __name__ == "__main__":
    main()
