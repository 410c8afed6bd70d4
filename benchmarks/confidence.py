"""What the confidence costs: calls of a segmenter with it and without it.

    python -m benchmarks.confidence CHECKPOINT PICTURES [--head HEAD]... [--limit N] [--rounds N]
        [--threads N]

PICTURES is a folder of images. The heads ``scores``, where the network has it, and ``logits`` are
called with and without confidence. For ``labels`` and ``scene``, a graph with the second output
runs beside one without it. Every round labels all images in every way. A ratio is the median over
the rounds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import alternate, median_ratio
from fcnkit.export.build import trace_core
from fcnkit.export.to_onnx import export_onnx
from fcnkit.runtime import Compute, Head, Segmenter, load, read_picture
from fcnkit.train.checkpoint import load_model

Images = list[NDArray[np.uint8]]

_WAYS: Final[tuple[tuple[str, Compute], ...]] = (
    ("onnxruntime", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
)


def label_all(segmenter: Segmenter, images: Images, *, confidence: bool) -> None:
    """Label every image."""
    for image_hwc in images:
        if confidence:
            segmenter(image_hwc, confidence=True)
        else:
            segmenter(image_hwc)


def main() -> None:
    """Measure, and print one line of JSON per head and backend."""
    parser = argparse.ArgumentParser(description="What the confidence costs.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--head", action="append", choices=get_args(Head), help="all by default")
    parser.add_argument("--limit", type=int, default=8, help="images")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    images = [read_picture(path) for path in sorted(options.pictures.iterdir())[: options.limit]]
    net, loaded = load_model(options.checkpoint)
    core = trace_core(net, loaded.spec.num_classes)
    heads: list[Head] = options.head or ["logits", "labels", "scene"]
    if options.head is None and core.last_layer is not None:
        heads.insert(0, "scores")
    with tempfile.TemporaryDirectory() as folder:
        models: dict[tuple[Head, bool], Path] = {}
        for head in heads:
            for sure in (False, True) if head in ("labels", "scene") else (False,):
                models[head, sure] = Path(folder) / f"{head}-{sure}.onnx"
                export_onnx(options.checkpoint, models[head, sure], head=head, confidence=sure)
        for head in heads:
            for backend, compute in _WAYS:
                plain = models[head, False]
                sure = models.get((head, True), plain)
                open_model = partial(load, backend=backend, compute=compute)
                with (
                    open_model(plain, threads=options.threads) as without,
                    open_model(sure, threads=options.threads) as with_it,
                ):
                    ways = {
                        "without": partial(label_all, without, images, confidence=False),
                        "with": partial(label_all, with_it, images, confidence=True),
                    }
                    seconds = alternate(ways, rounds=options.rounds, warmup=1)
                per_image = 1000 * float(np.median(seconds["without"])) / len(images)
                ratio = median_ratio(seconds["with"], seconds["without"])
                facts: dict[str, object] = {"head": head, "backend": backend, "compute": compute}
                facts |= {"ms_without": round(per_image, 2), "ratio": round(ratio, 3)}
                print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
