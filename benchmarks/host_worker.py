"""One process of ``benchmarks.host``: labels image files with a model that costs nothing.

    python -m benchmarks.host_worker SETTINGS

SETTINGS is JSON. Each line on standard input is a round, as JSON; each line of output is what it
took. The functions that are called here have been in fcnkit for long, so that the same file
measures earlier versions too.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import fcnkit
from fcnkit.runtime.artifacts.spec import (
    FORMAT,
    InputSpec,
    ModelSpec,
    OutputSpec,
    ShapeRange,
    SourceSpec,
)
from fcnkit.runtime.backends.base import BackendInfo, CheckedBackend
from fcnkit.runtime.bench.stages import STAGES, PictureWork, plan_cover
from fcnkit.runtime.pixels.palette import voc_palette
from fcnkit.runtime.predict.folder import find_jobs, predict_files
from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.runtime.predict.staging import Staging


def spec_of(classes: int) -> ModelSpec:
    colors = voc_palette(classes)
    return ModelSpec(
        format=FORMAT,
        architecture="none",
        head="labels",
        precision="fp32",
        classes=tuple(f"class {number}" for number in range(classes)),
        palette=tuple((int(r), int(g), int(b)) for r, g, b in colors),
        ignore_index=255,
        input=InputSpec(
            name="image",
            layout="NHWC",
            dtype="uint8",
            color="RGB",
            mean=(0.5, 0.5, 0.5),
            std=(0.25, 0.25, 0.25),
            multiple=32,
        ),
        output=OutputSpec(name="labels", layout="NHW", dtype="uint8"),
        shapes=ShapeRange(min=(1, 32, 32), opt=(1, 320, 480), max=(16, 4096, 4096)),
        source=SourceSpec(sha256="0" * 64, parity=None),
        versions={},
    )


class Instant(CheckedBackend):
    """Answers with the true masks of the data set, one after the other."""

    def __init__(self, masks: list[NDArray[np.uint8]]) -> None:
        info = BackendInfo(
            library="none",
            version="",
            device="cpu",
            device_name="none",
            threads=1,
            precision="fp32",
        )
        super().__init__(
            spec_of(1 + max(int(mask.max()) for mask in masks)), name="none", info=info
        )
        height, width = (-(-side // 32) * 32 for side in masks[0].shape)
        self._answers = np.zeros((len(masks), height, width), np.uint8)
        for answer, mask in zip(self._answers, masks, strict=True):
            answer[: mask.shape[0], : mask.shape[1]] = mask
        self.restart()

    def restart(self) -> None:
        """Begin with the first mask again, so that every round writes the same files."""
        self._numbers = itertools.cycle(range(len(self._answers)))

    def _run(self, batch: NDArray[Any]) -> NDArray[Any]:
        return self._answers[list(itertools.islice(self._numbers, len(batch)))]

    def _free(self) -> None:
        pass


class Worker:
    """Does the rounds."""

    def __init__(self, settings: dict[str, Any]) -> None:
        if settings["without"]:
            sys.modules["simplejpeg"] = None  # type: ignore[assignment]
        package = settings["package"]
        if package and not str(fcnkit.__file__).startswith(package):
            raise SystemExit(
                f"--old: the fcnkit of {package} must be imported, got {fcnkit.__file__}"
            )
        self._images = [Path(path) for path in settings["images"]]
        self._workers: int | None = settings["workers"]
        masks = [np.array(Image.open(path)) for path in settings["masks"]]
        # Void becomes the background, because a model gives every pixel a class.
        self._model = Instant([np.where(mask == 255, np.uint8(0), mask) for mask in masks])
        self._segmenter = Segmenter(self._model)

    def steps(self, out: Path) -> dict[str, float]:
        """Return milliseconds of this thread's processor time per image, step by step."""
        out.mkdir()
        height, width = np.array(Image.open(self._images[0])).shape[:2]
        plan = plan_cover(self._segmenter, (1, height, width))
        with Staging(out) as staging:
            works = [
                PictureWork(self._segmenter, [path], plan, staging, clock=time.thread_time)
                for path in self._images
            ]
            seconds = dict(zip(STAGES, np.mean([work() for work in works], axis=0), strict=True))
        names = ("decode", "cover", "stitch", "encode")
        return {name: 1000 * float(seconds[name]) for name in names}

    def folder(self, out: Path, part: str | None) -> dict[str, Any]:
        """Label all images as ``fcnkit predict`` does."""
        self._model.restart()
        jobs = find_jobs(self._images, out)
        start, busy = time.perf_counter(), time.process_time()
        count = 0
        for record in predict_files(
            self._segmenter, jobs, out, model_sha256="", part=part, workers=self._workers
        ):
            assert record.status == "done", record.error
            count += 1
        wall, busy = time.perf_counter() - start, time.process_time() - busy
        return {"images": count, "wall": wall, "busy": busy}


def digest_of(out: Path) -> str:
    """Return a hash of the pixels and palettes of all results."""
    found = hashlib.sha256()
    for path in sorted(out.glob("*.png")):
        with Image.open(path) as image:
            found.update(f"{path.name} {image.size} {image.getpalette()}".encode())
            found.update(image.tobytes())
    return found.hexdigest()


def main() -> None:
    worker = Worker(json.loads(sys.argv[1]))
    for line in sys.stdin:
        task = json.loads(line)
        out = Path(task["out"])
        found: dict[str, Any]
        if task["what"] == "digest":
            found = {"digest": digest_of(out)}
            shutil.rmtree(out)
        elif task["what"] == "steps":
            found = worker.steps(out)
            shutil.rmtree(out)
        else:
            found = worker.folder(out, task["part"])
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
