"""Labeling what a camera or a stream of the network shows."""

from __future__ import annotations

import math
import threading
from collections.abc import Generator
from datetime import datetime
from pathlib import Path

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.checks import check_type
from fcnkit.runtime.predict.file_task import RunContext
from fcnkit.runtime.predict.manifest import Manifest, Record
from fcnkit.runtime.predict.output_folder import opened_folder
from fcnkit.runtime.predict.outputs import Format
from fcnkit.runtime.predict.overlays import OverlayStyle
from fcnkit.runtime.predict.picture_file import MAX_PIXELS
from fcnkit.runtime.predict.results import ResultRequest
from fcnkit.runtime.predict.run import RunRequest, context_of
from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.runtime.predict.urls import is_url
from fcnkit.runtime.predict.video_in import name_of
from fcnkit.runtime.predict.video_out import VIDEO_SUFFIX
from fcnkit.runtime.predict.video_records import VideoRecord
from fcnkit.runtime.predict.video_result import check_video_format
from fcnkit.runtime.predict.video_run import OnFrame, VideoRequest, label_camera

__all__ = ["predict_camera"]


def predict_camera(
    segmenter: Segmenter,
    camera: int | str,
    out: str | Path,
    *,
    model_sha256: str,
    format: Format = "labels",
    wanted: ResultRequest | None = None,
    overlay: OverlayStyle | None = None,
    seconds: float | None = None,
    frames: bool = False,
    max_pixels: int = MAX_PIXELS,
    stop: threading.Event | None = None,
    on_frame: OnFrame | None = None,
) -> Generator[Record, None, None]:
    """Label what a camera shows: the newest frame again and again, until ``stop``.

    Args:
        segmenter: The model; used by this thread only.
        camera: Number of a camera of this machine, or an address such as ``rtsp://HOST/STREAM``.
        out: As for ``predict_files``. The result is named by camera and time, so that no run
            replaces another's.
        model_sha256: As for ``predict_files``.
        format: As for ``predict_files``.
        wanted: As for ``predict_files``.
        overlay: As for ``predict_files``.
        seconds: End after that time; None goes on until ``stop``.
        frames: As for ``predict_files``.
        max_pixels: As for ``predict_files``.
        stop: Once set, the result is ended.
        on_frame: As for ``predict_files``.

    Returns:
        A generator of records as those of a video from ``predict_files``.

    Raises:
        TypeError: As for ``predict_files``.
        ValueError: As for ``predict_files``, or seconds is not above 0.
        DataError: Another run writes into the folder; from the iterator.
        OSError: The result cannot be written; from the iterator.
    """
    check_type("predict_camera: segmenter", segmenter, Segmenter)
    if is_url(out):
        rule = "the result of a camera lies in a folder of this machine"
        remedy = "name a folder here, and copy the result"
        raise BadValueError(message("predict", rule, str(out), remedy))
    request = RunRequest(
        model_sha256=model_sha256,
        format=format,
        wanted=wanted,
        overlay=overlay,
        max_pixels=max_pixels,
    )
    context = context_of(segmenter, request)
    if not frames:
        check_video_format(format)
    if seconds is not None and not 0 < seconds < math.inf:
        rule, remedy = "seconds must be above 0", "leave it out to go on until Ctrl-C"
        raise BadValueError(message("predict", rule, seconds, remedy))
    video = VideoRequest(frames=frames, stop=stop or threading.Event(), on_frame=on_frame)
    name = Path(f"{name_of(camera)}-{datetime.now():%Y%m%d-%H%M%S}")
    if not frames:
        name = name.with_name(f"{name.name}{VIDEO_SUFFIX}")
    return _one_camera(context, camera, name, Path(out), video, seconds)


def _one_camera(
    context: RunContext,
    camera: int | str,
    name: Path,
    out: Path,
    video: VideoRequest,
    seconds: float | None,
) -> Generator[Record, None, None]:
    out.mkdir(parents=True, exist_ok=True)
    manifest = Manifest(
        out, options=context.options, model_sha256=context.model_sha256, resume=False
    )
    with opened_folder(manifest, out, resume=False) as (place, _):
        for record in label_camera(context, camera, name, place, video, seconds=seconds):
            if isinstance(record, VideoRecord):
                place.keep(record)
            yield record
