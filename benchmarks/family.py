"""Train every network briefly, and write the table behind docs/results.md.

    python -m benchmarks.family DATA RUNS [--networks NAME ...] [--epochs N] [--crop HxW]
        [--out docs/results.md]
    python -m benchmarks.family DATA RUNS --table [--out docs/results.md]

Trains each network from scratch with the ``modern`` recipe, into a run folder under RUNS. It writes
one row to RUNS/NAME.json: the scores after the last epoch on the full images of ``val``, void
ignored, ``cover="pad"``. Networks that have a row are skipped. The runs are much too short to rank
the networks. The table shows that each network learns, and its size.

--out writes all rows to one-epoch.csv beside the page, and a summary between two markers of the
page. Without it, both are printed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.markdown import Place, write_rows
from fcnkit.train.models import ARCHITECTURES, create_model

PLACE = Place(
    "one-epoch.csv", "<!-- summary: python -m benchmarks.family -->", "<!-- end of summary -->"
)


def train(network: str, data: Path, run: Path, *, epochs: int, crop: str) -> None:
    """Train one network through the command line, in a separate process."""
    command = [Path(sys.executable).with_name("fcnkit"), "train", data, "-o", run, "--resume"]
    options = ["--recipe", "modern", "--model", network, "--epochs", str(epochs)]
    options += ["--crop", crop, "--batch", "4", "--validate-every", str(epochs)]
    subprocess.run([*map(str, command), *options], check=True, stdout=subprocess.DEVNULL)


def row_of(network: str, run: Path, *, crop: str) -> dict[str, Any]:
    """Return the row of a finished run."""
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    net = create_model(network, 21)
    return {
        "network": network,
        "epochs": len(history),
        "crop": crop,
        "millions_of_parameters": sum(weight.numel() for weight in net.parameters()) / 1e6,
        "mean_iou": history[-1]["mean_iou"],
        "pixel_accuracy": history[-1]["pixel_accuracy"],
    }


def rows_in(runs: Path) -> list[dict[str, Any]]:
    """Return the rows that exist, in the order of the registry."""
    files = [runs / f"{network}.json" for network in ARCHITECTURES]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def cells(row: dict[str, Any]) -> dict[str, str]:
    """Return one row as the CSV file has it."""
    return {
        "network": row["network"],
        "millions_of_parameters": f"{row['millions_of_parameters']:.1f}",
        "epochs": str(row["epochs"]),
        "crop": row["crop"],
        "mean_iou": f"{row['mean_iou']:.3f}",
        "pixel_accuracy": f"{row['pixel_accuracy']:.3f}",
    }


def summary(rows: list[dict[str, Any]]) -> str:
    """Return three lines of Markdown about all rows."""

    def ends(key: str, digits: int) -> str:
        low, high = (choose(rows, key=lambda row: row[key]) for choose in (min, max))
        return " to ".join(f"{row[key]:.{digits}f} (`{row['network']}`)" for row in (low, high))

    return "\n".join(
        [
            f"- {len(rows)} networks, from {ends('millions_of_parameters', 1)} million parameters. "
            f"All rows: [{PLACE.csv_name}]({PLACE.csv_name}).",
            f"- Mean IoU: {ends('mean_iou', 3)}.",
            f"- Pixel accuracy: {ends('pixel_accuracy', 3)}.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder in VOC layout")
    parser.add_argument("runs", type=Path, help="folder for the runs and their rows")
    parser.add_argument("--networks", nargs="+", default=ARCHITECTURES, choices=ARCHITECTURES)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--crop", default="160x224", help="rows x columns, multiples of 32")
    parser.add_argument("--table", action="store_true", help="use the existing rows, train nothing")
    parser.add_argument("--out", type=Path, help="page that gets the summary")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    for network in () if options.table else options.networks:
        target = options.runs / f"{network}.json"
        if not target.exists():
            run = options.runs / network
            train(network, options.data, run, epochs=options.epochs, crop=options.crop)
            row = row_of(network, run, crop=options.crop)
            target.write_text(json.dumps(row, indent=2) + "\n")
            print(f"{network}: mean IoU {row['mean_iou']:.3f}", flush=True)
    rows = rows_in(options.runs)
    if not rows:
        raise SystemExit(f"{options.runs} must hold rows, got none; leave --table out")
    write_rows([cells(row) for row in rows], summary(rows), options.out, PLACE)


if __name__ == "__main__":
    main()
