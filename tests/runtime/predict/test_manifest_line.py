"""A line of the manifest holds every field of its record, in order."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from fcnkit.runtime.predict.manifest import Options, Record, line_of
from fcnkit.runtime.predict.overlays import OverlayStyle
from fcnkit.runtime.predict.stamp import Stamp
from fcnkit.runtime.predict.video_records import FrameRecord, VideoRecord

OPTIONS = Options(
    format="overlay",
    cover="average",
    tile=(64, 96),
    overlap=32,
    backend="onnxruntime",
    compute="fp32",
    classes=("road", "sky"),
    labels=(0, 255, 1),
    void_below=0.5,
    confidence=True,
    overlay=OverlayStyle(outline=True),
)
FIELDS: dict[str, Any] = {
    "input": "a/\u00fc.jpg",
    "input_path": "/a/\u00fc.jpg",
    "input_stamp": Stamp(bytes=7, mtime_ns=8),
    "status": "done",
    "output": "\u00fc.png",
    "output_stamp": Stamp(bytes=9, mtime_ns=10),
    "size": (3, 4),
    "milliseconds": 1.5,
    "error": None,
    "options": OPTIONS,
    "model_sha256": "ab",
    "pixels": {"road": 11, "void": 1},
    "confidence": 0.25,
    "time_ns": 12,
}
RECORDS = [
    Record(**FIELDS),
    Record(**{**FIELDS, "input_stamp": None, "size": None, "error": "a\nb", "pixels": None}),
    FrameRecord(**FIELDS, frame=3, seconds=0.1),
    VideoRecord(**FIELDS, frames=2, dropped=1, seconds=None, notes=("sound", "subtitles")),
]


@pytest.mark.parametrize("record", RECORDS)
def test_a_line_is_its_record(record: Record) -> None:
    line = line_of(record)
    assert line == json.dumps(asdict(record)).encode() + b"\n"
    assert line.count(b"\n") == 1
    assert list(json.loads(line)) == list(asdict(record))
