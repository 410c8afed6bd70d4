"""A short training of every network of the family, and a table of what came out.

    python -m benchmarks.family DATA RUNS [--networks NAME ...] [--epochs N] [--crop HxW]
    python -m benchmarks.family DATA RUNS --table

Trains each network with the ``modern`` recipe from scratch into a run folder under RUNS and writes
a row to RUNS/NAME.json: the scores after its last epoch on the full pictures of ``val``, void
ignored, ``cover="pad"``. Networks that have a row are left alone. The runs are far too short to
rank the networks: the table shows that each one learns and how big it is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from fcnkit.train.models import ARCHITECTURES, create_model


def train(network: str, data: Path, run: Path, *, epochs: int, crop: str) -> None:
    """Train one network through the command line, in a process of its own."""
    command = [Path(sys.executable).with_name("fcnkit"), "train", data, "-o", run, "--resume"]
    options = ["--recipe", "modern", "--model", network, "--epochs", str(epochs)]
    options += ["--crop", crop, "--batch", "4", "--validate-every", str(epochs)]
    subprocess.run([*map(str, command), *options], check=True, stdout=subprocess.DEVNULL)


def row_of(network: str, run: Path, *, crop: str) -> dict[str, Any]:
    """Gather what a finished run says of itself."""
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


def table(runs: Path) -> str:
    """Return the rows that are there as a Markdown table, in the order of the family."""
    lines = [
        "| network | parameters | epochs, crop | mean IoU | pixel accuracy |",
        "|---|---|---|---|---|",
    ]
    for network in ARCHITECTURES:
        if (runs / f"{network}.json").exists():
            row = json.loads((runs / f"{network}.json").read_text())
            lines.append(
                f"| `{network}` | {row['millions_of_parameters']:.1f} M "
                f"| {row['epochs']}, {row['crop']} "
                f"| {row['mean_iou']:.3f} | {row['pixel_accuracy']:.3f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder in VOC layout")
    parser.add_argument("runs", type=Path, help="folder for the runs and their rows")
    parser.add_argument("--networks", nargs="+", default=ARCHITECTURES, choices=ARCHITECTURES)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--crop", default="160x224", help="rows x columns, multiples of 32")
    parser.add_argument("--table", action="store_true", help="print the rows, train nothing")
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
    print(table(options.runs))


if __name__ == "__main__":
    main()
