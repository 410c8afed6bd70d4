"""Which covering is the better default: accuracy on held-out pictures, and what it costs.

    python -m benchmarks.covering CHECKPOINT DATA [--split val] [--limit N] [--way NAME]...

Every way labels the same pictures with the same backend; the ways take turns, picture by picture.
Pictures are taken whole and cut to an awkward size, where padding and tiles differ most.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.markdown import table
from benchmarks.options import parser_of, save
from fcnkit.export.to_onnx import export_onnx
from fcnkit.runtime import Segmenter, open_backend
from fcnkit.runtime.pixels.metrics import confusion, scores
from fcnkit.train.data.voc import VocFolder, open_voc, read_pair

WAYS: dict[str, dict[str, Any]] = {
    "pad": {"cover": "pad"},
    "average": {"cover": "average"},
    "average, tile 128x128, overlap 0": {"tile": (128, 128), "overlap": 0},
    "average, tile 128x128, overlap 64": {"tile": (128, 128), "overlap": 64},
    "average, tile 256x256, overlap 0": {"tile": (256, 256), "overlap": 0},
    "average, tile 256x256, overlap 64": {"tile": (256, 256), "overlap": 64},
    "average, tile 256x256, overlap 128": {"tile": (256, 256), "overlap": 128},
}


def crop(image: NDArray[Any], size: tuple[int, int] | None) -> NDArray[Any]:
    return image if size is None else np.ascontiguousarray(image[: size[0], : size[1]])


def measure(
    ways: dict[str, Segmenter], folder: VocFolder, limit: int | None, size: tuple[int, int] | None
) -> list[dict[str, Any]]:
    classes = folder.labelmap.classes
    counts = {name: np.zeros((len(classes), len(classes)), np.int64) for name in ways}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    tiles = dict.fromkeys(ways, 0)
    for number, sample in enumerate(folder.samples[:limit]):
        image_hwc, labels_hw = (crop(part, size) for part in read_pair(sample, folder.labelmap))
        for name, segmenter in ways.items():
            start = time.perf_counter()
            predicted = segmenter(image_hwc)
            if number > 0:  # the first warms up
                seconds[name].append(time.perf_counter() - start)
            counts[name] += confusion(labels_hw, predicted, len(classes))
            tiles[name] = len(segmenter.plan(*labels_hw.shape))
    rows = []
    for name in ways:
        found = scores(counts[name], classes)
        rows.append(
            {
                "size": "whole" if size is None else f"{size[0]}x{size[1]}",
                "covering": name,
                "tiles": tiles[name],
                "mean_iou": found.mean_iou,
                "pixel_accuracy": found.pixel_accuracy,
                "milliseconds": 1000 * statistics.median(seconds[name]),
                "times_pad": statistics.median(
                    a / b for a, b in zip(seconds[name], seconds["pad"], strict=True)
                ),
            }
        )
    return rows


def cells(row: dict[str, Any]) -> list[str]:
    scores = [f"{row[name]:.4f}" for name in ("mean_iou", "pixel_accuracy")]
    times = [f"{row['milliseconds']:.1f}", f"{row['times_pad']:.2f}"]
    return [row["size"], row["covering"], str(row["tiles"]), *scores, *times]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--way", action="append", help="one of the ways; pad is always there")
    options = parser.parse_args()
    folder = open_voc(options.data, split=options.split)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "logits.onnx"
        export_onnx(options.checkpoint, model, head="logits")
        with open_backend(model, backend=options.backend, threads=options.threads) as backend:
            chosen = ["pad", *options.way] if options.way else [*WAYS]
            ways = {way: Segmenter(backend, **WAYS[way]) for way in chosen}
            for size in (None, (330, 450)):
                rows += measure(ways, folder, options.limit, size)
    head = ("pictures", "covering", "tiles", "mean IoU", "pixel accuracy", "ms", "times pad")
    print(table(head, [cells(row) for row in rows]))
    save(rows, options.json)


if __name__ == "__main__":
    main()
