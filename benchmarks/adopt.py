"""The table behind docs/adopt.md: networks from elsewhere, adopted on this machine.

    python -m benchmarks.adopt ROWS.jsonl [--out docs/adopt.md] [--only WORD] [--minutes N]

Each source of ``adopt_sources`` has fresh weights. It is adopted with every head in fp32, and with
head labels in fp16 and int8. Its labels are compared with the source in ONNX Runtime and in
OpenVINO, and an engine is built with TensorRT-RTX. Each row is appended to ROWS.jsonl when it is
ready. Rows that exist are kept, so that a run can be stopped and continued; --minutes stops it.

--out writes all rows to adopt.csv beside the page, and a table between two markers of the page.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.adopt_sources import SOURCES
from benchmarks.markdown import csv_text, put_between, table
from fcnkit.errors import FcnkitError
from fcnkit.export.adopt import Claims, adopt
from fcnkit.export.comparison_images import noise_pictures, normalized
from fcnkit.export.engine import build_engine
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.backends.opening import open_backend
from fcnkit.train.data.shapes import write_shapes

CSV = "adopt.csv"
BEGIN, END = "<!-- table: python -m benchmarks.adopt -->", "<!-- end of table -->"
VARIANTS = (
    ("labels", "fp32"),
    ("scene", "fp32"),
    ("logits", "fp32"),
    ("labels", "fp16"),
    ("labels", "int8"),
)
PIXELS = 64 * 96


def measure(
    source: str, claims: dict[str, Any], head: str, precision: str, images: Path
) -> dict[str, str]:
    """Adopt a source once, run it, and build an engine."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.onnx"
        try:
            report = adopt(
                source,
                out,
                claims=Claims(**claims),
                head=head,  # type: ignore[arg-type]
                precision=precision,  # type: ignore[arg-type]
                calibration=images if precision == "int8" else None,
                # TensorRT parses no others.
                activations="int8" if precision == "int8" else "uint8",
                max_pixels=PIXELS,
            )
        except (FcnkitError, ValueError) as error:
            return {"agreement": "", "openvino": "", "tensorrt_rtx": "", "refusal": str(error)}
        agreement = report.verify.label_agreement
        row = {"agreement": f"{100 * agreement:.4f}", "openvino": openvino(out, report.spec)}
        return {**row, "tensorrt_rtx": engine(out), "refusal": ""}


def openvino(model: Path, spec: ModelSpec) -> str:
    """Share of labels that OpenVINO gives as ONNX Runtime does, both in the file's precision."""
    low = spec.shapes.min
    shape = low if low == spec.shapes.max else (low[0], *(max(96, 2 * s) for s in low[1:]))
    image = noise_pictures(shape)
    batch = normalized(image, spec.input) if spec.input.layout == "NCHW" else image
    labels = []
    try:
        for name in ("onnxruntime", "openvino"):
            with open_backend(model, backend=name) as backend:
                result = backend.infer(batch)
            labels.append(result if result.ndim == 3 else result.argmax(1))
    except (FcnkitError, ValueError) as error:
        return f"refused: {error}"
    return f"{100 * float(np.mean(labels[0] == labels[1])):.4f}"


def engine(model: Path) -> str:
    """Whether TensorRT-RTX builds an engine; what it says where not."""
    try:
        build_engine(model, model.with_suffix(".engine"), flavor="tensorrt-rtx")
    except (FcnkitError, ValueError) as error:
        return f"refused: {error}"
    return "built"


def _plain(text: str) -> str:
    """Take the names of temporary folders out of a reason, and its end where it is long."""
    short = re.sub(r"(/\w+)*/tmp\w*/", "", " ".join(text.split()))
    return short if len(short) < 300 else f"{short[:300]}..."


def read_rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(path: Path, only: str, minutes: float) -> list[dict[str, str]]:
    """Measure what is missing, as long as there is time."""
    end = time.monotonic() + 60 * minutes
    rows = read_rows(path)
    done = {(row["source"], row["head"], row["precision"]) for row in rows}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "shapes"
        write_shapes(data, train=16, val=2)
        for source, (make, claims) in SOURCES.items():
            missing = [v for v in VARIANTS if (source, *v) not in done]
            if not missing or only not in source:
                continue
            given = make(folder)
            for head, precision in missing:
                if time.monotonic() > end:
                    return rows
                row = {"source": source, "head": head, "precision": precision}
                row |= measure(given, claims, head, precision, data / "JPEGImages")
                row = {key: _plain(value) for key, value in row.items()}
                print(*row.values(), sep=" | ", flush=True)
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                rows.append(row)
    return rows


def page(rows: list[dict[str, str]]) -> str:
    """Return a line per source, a column per head and precision, and every refusal below."""
    refusals: dict[str, int] = {}
    cells: dict[str, dict[tuple[str, str], str]] = {}
    for row in rows:
        reason = row["refusal"] or next(
            (row[k] for k in ("openvino", "tensorrt_rtx") if row[k].startswith("refused")), ""
        )
        note = f" [{refusals.setdefault(reason, len(refusals) + 1)}]" if reason else ""
        shown = "refused"
        if not row["refusal"]:
            engine_text = "yes" if row["tensorrt_rtx"] == "built" else "no"
            openvino_text = row["openvino"] if row["openvino"][:1].isdigit() else "no"
            shown = f"{row['agreement']} / {openvino_text} / {engine_text}"
        cells.setdefault(row["source"], {})[row["head"], row["precision"]] = shown + note
    head = ["source", *(f"{h} {p}" for h, p in VARIANTS)]
    lines = [[name, *(found.get(v, "") for v in VARIANTS)] for name, found in cells.items()]
    text = table(head, lines)
    if refusals:
        text += "\n\n" + "\n".join(f"{number}. {reason}" for reason, number in refusals.items())
    return text


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--minutes", type=float, default=1e9)
    options = parser.parse_args()
    logging.getLogger("fcnkit").setLevel(logging.ERROR)
    rows = run(options.rows, options.only, options.minutes)
    if options.out:
        options.out.with_name(CSV).write_text(csv_text(rows), encoding="utf-8")
        put_between(options.out, BEGIN, END, page(rows))
    elif rows:
        print(page(rows))


if __name__ == "__main__":
    main()
