"""One large image through fcnkit and through the usual ways of others: time and peak memory.

    python -m benchmarks.large_peers SOURCE FOLDER [--classes N] [--side 4096] [--tile 1024]
        [--overlap 256] [--threads 2] [--rounds 1] [--memory GB] [--json FILE]

SOURCE is as for ``benchmarks.peers``. A tiled TIFF of SIDE x SIDE pixels is made in FOLDER where it
is not there, and every way turns it into a label PNG, in a process that no other way has used.
MEMORY bounds the data of a process, so that a way that needs more fails and the machine lives.

    whole       the whole image in one call, as a script for small images does it
    slices      SAHI's slices: overlapping tiles, where the later one writes over the earlier one
    monai       MONAI's sliding-window inference, which averages the logits of tiles; over the same
                session as the others, and over PyTorch
    fcnkit      ``fcnkit predict --tile``, which averages too, row of tiles by row of tiles

All tiles have the same size and overlap, and all sessions run the same plain file in float32 with
the same threads. The labels are compared with fcnkit's: the ways place their tiles differently, so
that the last pixels before an edge of a tile differ.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.markdown import table
from fcnkit.runtime.machine import host_memory

WAYS = ("fcnkit", "slices", "monai over onnxruntime", "monai over torch", "whole")
Labels = np.ndarray[Any, np.dtype[np.uint8]]


def slices(side: int, tile: int, overlap: int) -> list[int]:
    """SAHI's rule: steps of a tile less the overlap, the last tile moved back into the image."""
    begins = []
    for begin in range(0, side, tile - overlap):
        begins.append(min(begin, max(0, side - tile)))
        if begin + tile >= side:
            break
    return begins


def read_normalized(task: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The whole image as float32 (1, 3, H, W), as every script begins."""
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(task["image"]) as opened:
        image = np.asarray(opened.convert("RGB"), np.float32) / 255
    image = (image - np.array(task["mean"], np.float32)) / np.array(task["std"], np.float32)
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None])


def session_of(task: dict[str, Any]) -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task["threads"]
    session = onnxruntime.InferenceSession(
        task["plain"], options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name

    def run(batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        logits: np.ndarray[Any, Any] = session.run(None, {name: batch})[0]
        return logits

    return run


def by_whole(task: dict[str, Any]) -> Labels:
    logits = session_of(task)(read_normalized(task))
    return logits[0].argmax(axis=0).astype(np.uint8)


def by_slices(task: dict[str, Any]) -> Labels:
    run, image, tile = session_of(task), read_normalized(task), task["tile"]
    height, width = image.shape[2:]
    labels = np.zeros((height, width), np.uint8)
    for top in slices(height, tile, task["overlap"]):
        for left in slices(width, tile, task["overlap"]):
            window = np.s_[top : top + tile, left : left + tile]
            part = np.ascontiguousarray(image[:, :, *window])
            labels[window] = run(part)[0].argmax(axis=0)
    return labels


def by_monai(task: dict[str, Any]) -> Labels:
    import torch
    from monai.inferers.utils import sliding_window_inference

    torch.set_num_threads(task["threads"])
    predictor: Callable[[Any], Any]
    if task["way"].endswith("torch"):
        from benchmarks.peers_subject import module_of

        predictor = module_of(task["source"])
    else:
        run = session_of(task)

        def predictor(batch: Any) -> Any:
            return torch.from_numpy(run(batch.numpy()))

    tile, overlap = task["tile"], task["overlap"] / task["tile"]
    with torch.inference_mode():
        logits = sliding_window_inference(
            torch.from_numpy(read_normalized(task)), (tile, tile), 1, predictor, overlap=overlap
        )
        assert isinstance(logits, torch.Tensor)
        labels: Labels = logits[0].argmax(0).to(torch.uint8).numpy()
    return labels


def by_fcnkit(task: dict[str, Any]) -> None:
    """Label as ``fcnkit predict`` does; the result is a file already."""
    from fcnkit.runtime import Segmenter, open_backend
    from fcnkit.runtime.predict.folder import find_jobs, predict_files

    backend = open_backend(task["model"], backend="onnxruntime", threads=task["threads"])
    out, tile = Path(task["out"]).parent, (task["tile"],) * 2
    with Segmenter(backend, cover="average", tile=tile, overlap=task["overlap"]) as segmenter:
        jobs = find_jobs([task["image"]], out)
        # Everything above one pixel is read row by row.
        [record] = predict_files(segmenter, jobs, out, model_sha256="", max_pixels=1)
        assert record.status == "done", record.error
        (out / record.output).rename(task["out"])


def child(task: dict[str, Any]) -> None:
    """Go one way, and say what it took."""
    if task["memory"]:
        limit = int(task["memory"] * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    start = time.perf_counter()
    if task["way"] == "fcnkit":
        by_fcnkit(task)
    else:
        work = {"whole": by_whole, "slices": by_slices}.get(task["way"], by_monai)
        picture = Image.fromarray(work(task))
        picture.putpalette([value for color in task["palette"] for value in color])
        picture.save(task["out"])
    found = {"seconds": time.perf_counter() - start, "peak_mb": host_memory()["peak_mb"]}
    print(json.dumps(found))


def run_way(task: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.large_peers", "--child", json.dumps(task)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return {"error": said[-1] if said else f"ended with {done.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def agreement(one: Path, other: Path) -> float:
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(one) as a, Image.open(other) as b:
        return float((np.asarray(a) == np.asarray(b)).mean())


def measure(options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.large import make_picture
    from benchmarks.peers_subject import open_subject

    folder: Path = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / f"{options.side}.tif"
    if not image.exists():
        make_picture(image, options.side)
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        made = Path(name)
        subject = open_subject(options.source, made, classes=options.classes)
        task = {
            "source": options.source,
            "image": str(image),
            "plain": str(subject.plain),
            "model": str(subject.models["average"]),
            "mean": subject.spec.input.mean,
            "std": subject.spec.input.std,
            "palette": subject.spec.palette,
            "tile": options.tile,
            "overlap": options.overlap,
            "threads": options.threads,
            "memory": options.memory,
        }
        for _ in range(options.rounds):
            for way in WAYS:
                row = rows.setdefault(way, {"seconds": [], "peak_mb": []})
                if subject.make is None and way.endswith("torch"):
                    row["error"] = "an ONNX file has no module"
                if "error" in row:
                    continue
                out = made / f"{way}.png"
                found = run_way({**task, "way": way, "out": str(out)})
                if "error" in found:
                    row["error"] = found["error"]
                    continue
                row["seconds"].append(found["seconds"])
                row["peak_mb"].append(found["peak_mb"])
                row["same_labels"] = agreement(out, made / f"{WAYS[0]}.png")
    about = {key: getattr(options, key) for key in ("side", "tile", "overlap", "threads", "rounds")}
    return {"network": subject.name, **about, "rows": rows}


def show(found: dict[str, Any]) -> str:
    """Return the result as Markdown."""
    ours = found["rows"][WAYS[0]]
    head = ("way", "seconds", "times fcnkit's", "peak MiB", "times fcnkit's", "same labels")
    lines = []
    for way, row in found["rows"].items():
        if not row["seconds"] or not ours["seconds"]:
            reason = row.get("error", "").replace("|", "/")  # a library may say very much
            lines.append((way, "failed", "", "", "", reason[:150]))
            continue
        seconds, peak = (statistics.median(row[key]) for key in ("seconds", "peak_mb"))
        ratios = [
            f"{value / statistics.median(ours[key]):.2f}"
            for key, value in (("seconds", seconds), ("peak_mb", peak))
        ]
        same = f"{100 * row['same_labels']:.3f} %"
        lines.append((way, f"{seconds:.1f}", ratios[0], f"{peak:.0f}", ratios[1], same))
    return table(head, lines)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(json.loads(sys.argv[2]))
        return
    from benchmarks.peers_subject import add_options

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=4096, help="rows and columns")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--overlap", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--memory", type=float, default=0, help="GB of a process; 0 for no bound")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options)
    print(
        f"{found['network']}, {found['side']}x{found['side']}, tiles of {found['tile']} with "
        f"{found['overlap']} shared, {found['threads']} threads\n\n{show(found)}"
    )
    if options.json:
        options.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
