"""Which network to choose: the table behind docs/choose.md, from reports of ``bench matrix``.

    fcnkit bench matrix RUNS/fpn/best.pt RUNS/ddrnet/best.pt ... DATA -o OUT
    python -m benchmarks.choose OUT/report.json [--out docs/choose.md]

A line is a network in a precision, fastest first. The precision is that of the file. A float32 file
that a backend was told to compute in a lower one counts as that one. An int8 file stays int8,
whatever its other layers are computed in. Of the heads each backend's fastest counts.
A network is marked where each of its lines is beaten: another network is at least as fast with the
same backend, and at least as accurate, and better in one of the two.

--out writes all lines to choose.csv and the plot to choose.png beside the page, and the table
between two markers of the page. Without it, lines and table are printed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from matplotlib.figure import Figure
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.markdown import Place, table, write_rows
from fcnkit.runtime.artifacts.spec import parse_shape
from fcnkit.train.models import create_model

PLACE = Place("choose.csv", "<!-- table: python -m benchmarks.choose -->", "<!-- end of table -->")
PLOT = "choose.png"
BACKENDS: Final = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
MARK = "nobody should choose it"


@dataclass(frozen=True, kw_only=True)
class Timed:
    """The fastest way of a backend to run a line."""

    ms: float
    images_per_second: float
    mean_iou: float


@dataclass(frozen=True, kw_only=True)
class Line:
    """A network in a precision."""

    network: str
    precision: str
    megabytes: float
    timed: dict[str, Timed] = field(default_factory=dict)
    """By backend."""

    @property
    def mean_iou(self) -> float:
        """The lowest of its backends'."""
        return min(one.mean_iou for one in self.timed.values())

    @property
    def ms(self) -> float:
        """Of its fastest backend."""
        return min(one.ms for one in self.timed.values())


def lines_of(report: dict[str, Any]) -> list[Line]:
    """Return the lines of a report that scored mean IoU, the fastest first."""
    lines: dict[tuple[str, str], Line] = {}
    for row in report["rows"]:
        scored = row["status"] == "done" and row["score"]["kind"] == "mean_iou"
        if not scored or row["backend"] not in BACKENDS:
            continue
        told = row["precision"] == "fp32" and row["compute"] != "auto"
        precision = row["compute"] if told else row["precision"]
        key = row["architecture"], precision
        found = Timed(
            ms=row["end_to_end"]["p50_ms"],
            images_per_second=row["images_per_second"],
            mean_iou=row["score"]["value"],
        )
        line = lines.setdefault(
            key, Line(network=key[0], precision=precision, megabytes=row["bytes"] / 1e6)
        )
        before = line.timed.get(row["backend"])
        if before is None or found.ms < before.ms:
            line.timed[row["backend"]] = found
    return sorted(lines.values(), key=lambda line: line.ms)


def beaten(lines: Sequence[Line]) -> set[str]:
    """Return the networks that nobody should choose: other networks beat each of their lines."""

    def loses(line: Line, backend: str) -> bool:
        own = line.timed[backend]
        return any(
            (other.ms, -other.mean_iou) != (own.ms, -own.mean_iou)
            and other.ms <= own.ms
            and other.mean_iou >= own.mean_iou
            for one in lines
            if one.network != line.network
            for name, other in one.timed.items()
            if name == backend
        )

    kept = {line.network for line in lines for backend in line.timed if not loses(line, backend)}
    return {line.network for line in lines} - kept


def size_of(network: str, classes: int, size: tuple[int, int]) -> tuple[float, float]:
    """Return the millions of parameters, and the billions of multiplications for one image."""
    with torch.device("meta"):
        net = create_model(network, classes).eval()
        image = torch.empty(1, 3, *size)
    weights = sum(weight.numel() for weight in net.parameters())
    with FlopCounterMode(display=False) as counter:
        net(image)
    return weights / 1e6, counter.get_total_flops() / 2e9


def cells(line: Line, sizes: dict[str, tuple[float, float]], marked: set[str]) -> dict[str, str]:
    """Return a line as the CSV file has it."""
    millions, gmac = sizes[line.network]
    row = {
        "network": line.network,
        "precision": line.precision,
        "mean_iou": f"{line.mean_iou:.3f}",
        "millions_of_parameters": f"{millions:.1f}",
        "gmac": f"{gmac:.1f}",
        "megabytes": f"{line.megabytes:.1f}",
    }
    for backend in BACKENDS:
        found = line.timed.get(backend)
        row[f"{backend}_ms"] = f"{found.ms:.1f}" if found else ""
        row[f"{backend}_images_per_second"] = f"{found.images_per_second:.0f}" if found else ""
    return {**row, "note": MARK if line.network in marked else ""}


def summary(rows: Sequence[dict[str, str]], report: dict[str, Any]) -> str:
    """Return the page's table, with the plot above it."""
    head = ["network", "precision", "mean IoU", "parameters", "GMAC", "MB"]
    head += [f"{name}, ms (images/s)" for name in BACKENDS.values()]
    body = []
    for row in rows:
        times = [
            f"{row[f'{one}_ms']} ({row[f'{one}_images_per_second']})" if row[f"{one}_ms"] else "-"
            for one in BACKENDS
        ]
        name = f"`{row['network']}`" + (f", {MARK}" if row["note"] else "")
        figures = [row["precision"], row["mean_iou"], f"{row['millions_of_parameters']} M"]
        body.append([name, *figures, row["gmac"], row["megabytes"], *times])
    data = report["data"]
    note = (
        f"Mean IoU on the {data['pictures']} images of `{data['split']}`. Milliseconds are from "
        f"file to label file for one image of {report['shape']}, the median; images/s are over "
        f"many files. All lines: [{PLACE.csv_name}]({PLACE.csv_name})."
    )
    plot = f"![Mean IoU against milliseconds]({PLOT})"
    return f"{plot}\n\n{table(head, body)}\n\n{note}"


def drawn(lines: Sequence[Line]) -> Figure:
    """Draw accuracy against time, with the line of those that nothing beats."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for network in dict.fromkeys(line.network for line in lines):
        own = [line for line in lines if line.network == network]
        places = [line.ms for line in own], [line.mean_iou for line in own]
        axes.plot(*places, "o", label=network, zorder=2)
        for line in own:
            text, place = line.precision, (line.ms, line.mean_iou)
            axes.annotate(text, place, (0, 6), textcoords="offset points", ha="center", size=8)
    edge: list[Line] = []
    for line in lines:
        if not edge or line.mean_iou > edge[-1].mean_iou:
            edge.append(line)
    axes.step(
        [one.ms for one in edge],
        [one.mean_iou for one in edge],
        where="post",
        color="gray",
        label="nothing is faster and as accurate",
        zorder=1,
    )
    axes.set_xlabel("milliseconds from file to label file, fastest backend")
    axes.set_ylabel("mean IoU")
    axes.set_xlim(left=0)
    axes.margins(0.1)
    axes.legend()
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("report", type=Path, help="report.json of fcnkit bench matrix")
    parser.add_argument("--classes", type=int, default=11, help="of the networks")
    parser.add_argument("--out", type=Path, help="page that gets the table")
    options = parser.parse_args()
    report = json.loads(options.report.read_text(encoding="utf-8"))
    lines = lines_of(report)
    if not lines:
        rule = "must have rows that were scored by mean IoU"
        raise SystemExit(f"{options.report} {rule}, got none; give bench matrix labeled DATA")
    _, height, width = parse_shape(f"1x{report['shape']}", "shape")
    padded = -(-height // 32) * 32, -(-width // 32) * 32
    sizes = {line.network: size_of(line.network, options.classes, padded) for line in lines}
    rows = [cells(line, sizes, beaten(lines)) for line in lines]
    write_rows(rows, summary(rows, report), options.out, PLACE)
    if options.out is not None:
        drawn(lines).savefig(options.out.with_name(PLOT), dpi=120)


if __name__ == "__main__":
    main()
