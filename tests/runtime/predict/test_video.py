"""Clips in, label videos out: every frame, its time, its direction, and what is damaged."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from fcnkit.runtime import Segmenter, predict_camera
from fcnkit.runtime.predict.folder import Job, find_jobs, predict_files
from fcnkit.runtime.predict.manifest import Record
from fcnkit.runtime.predict.overlays import OverlayStyle
from fcnkit.runtime.predict.results import ResultRequest
from fcnkit.runtime.predict.summary import summarize
from fcnkit.runtime.predict.video_in import camera_of, safe_address, upright
from fcnkit.runtime.predict.video_out import VideoOutput
from fcnkit.runtime.predict.video_records import FrameRecord, VideoRecord
from tests.refusal import refusal
from tests.runtime.clips import frames_in, labels_in, write_clip, write_sound
from tests.runtime.pictures import manifest_of, write_pictures

UNEVEN = [0, 512, 600, 2048, 2100, 9000, 9060, 9120, 20000, 20060, 30000, 40000]


def label(segmenter: Segmenter, clip: Path, out: Path, **options: Any) -> list[Record]:
    jobs = find_jobs([clip], out)
    return list(predict_files(segmenter, jobs, out, model_sha256="0" * 64, **options))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
@pytest.mark.parametrize("ticks", [None, UNEVEN, [one + 7000 for one in UNEVEN]])
def test_every_frame_has_its_labels_and_its_time(
    segmenter: Segmenter, tmp_path: Path, name: str, ticks: list[int] | None
) -> None:
    clip = write_clip(tmp_path / name, ticks=ticks)
    images, times = frames_in(clip)
    [record] = label(segmenter, clip, tmp_path / "out")
    assert isinstance(record, VideoRecord)
    assert (record.status, record.frames, record.error) == ("done", 12, None)
    labels, written = labels_in(tmp_path / "out" / "a.mp4")
    assert written == times
    assert len(labels) == len(images) == 12
    for got, image in zip(labels, images, strict=True):
        assert np.array_equal(got, segmenter(image))


@pytest.mark.parametrize("size", [(33, 47), (1, 1), (40, 65)])
def test_odd_sizes(segmenter: Segmenter, tmp_path: Path, size: tuple[int, int]) -> None:
    clip = write_clip(tmp_path / "a.mkv", 4, size, codec="ffv1", pixels="bgr0")
    images, _ = frames_in(clip)
    [record] = label(segmenter, clip, tmp_path / "out")
    labels, _ = labels_in(tmp_path / "out" / "a.mp4")
    for got, image in zip(labels, images, strict=True):
        assert np.array_equal(got, segmenter(image))
    style = OverlayStyle(legend=False)
    [record] = label(segmenter, clip, tmp_path / "seen", format="overlay", overlay=style)
    assert isinstance(record, VideoRecord)
    assert record.notes == ("odd sides are one pixel longer: this kind of video has even sides",)
    shown, _ = frames_in(tmp_path / "seen" / "a.mp4")
    assert {one.shape for one in shown} == {(size[0] + size[0] % 2, size[1] + size[1] % 2, 3)}


@pytest.mark.parametrize(("degrees", "turns"), [(-90, -1), (90, 1), (180, 2)])
def test_a_turned_clip_is_labeled_as_it_is_shown(
    segmenter: Segmenter, tmp_path: Path, degrees: int, turns: int
) -> None:
    clip = write_clip(tmp_path / "a.mp4", 3, degrees=degrees)
    images, _ = frames_in(clip)
    label(segmenter, clip, tmp_path / "out")
    labels, _ = labels_in(tmp_path / "out" / "a.mp4")
    for got, image in zip(labels, images, strict=True):
        assert np.array_equal(got, segmenter(np.ascontiguousarray(np.rot90(image, turns))))


def test_all_eight_directions() -> None:
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    for flat in ([1, 0, 0, 1], [-1, 0, 0, 1], [1, 0, 0, -1], [-1, 0, 0, -1]):
        for swapped in (False, True):
            matrix = np.array(flat, np.int32).reshape(2, 2)
            matrix = matrix[:, ::-1] if swapped else matrix
            places = np.array([(x, y) for y in range(2) for x in range(3)]) @ matrix
            places -= places.min(0)
            wanted = np.zeros((*places.max(0)[::-1] + 1, 3), np.uint8)
            wanted[places[:, 1], places[:, 0]] = image.reshape(-1, 3)
            assert np.array_equal(upright(image, matrix), wanted)


def test_rules_and_confidence_hold_for_videos(segmenter: Segmenter, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", 3)
    images, _ = frames_in(clip)
    wanted = ResultRequest(keep="road", void_below=0.5)
    label(segmenter, clip, tmp_path / "out", wanted=wanted)
    labels, _ = labels_in(tmp_path / "out" / "a.mp4")
    label(segmenter, clip, tmp_path / "sure", format="confidence")
    sure, _ = labels_in(tmp_path / "sure" / "a.mp4")
    for number, image in enumerate(images):
        made = segmenter(image, confidence=True)
        assert made.confidence is not None
        assert np.array_equal(sure[number], made.confidence)
        kept = (made.labels == 3) & (made.confidence >= 128)
        assert np.array_equal(labels[number], np.where(kept, 0, 255))


def test_sound_is_dropped_and_said(segmenter: Segmenter, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", 3, sound=True)
    [record] = label(segmenter, clip, tmp_path / "out")
    assert isinstance(record, VideoRecord)
    assert record.notes == ("the sound is not kept",)
    with av.open(str(tmp_path / "out" / "a.mp4")) as made:
        assert not made.streams.audio


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_cut_clip_gives_what_can_be_read(segmenter: Segmenter, tmp_path: Path, name: str) -> None:
    options = {"movflags": "faststart"} if name == "a.mp4" else None
    clip = write_clip(tmp_path / name, 60, options=options)
    images, times = frames_in(clip)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 2 // 3])
    [record] = label(segmenter, clip, tmp_path / "out")
    assert isinstance(record, VideoRecord)
    assert record.status == "partial"
    labels, written = labels_in(tmp_path / "out" / "a.mp4")
    assert 10 < len(labels) == record.frames < 60
    for got, shown in zip(labels, written, strict=True):
        assert np.array_equal(got, segmenter(images[times.index(shown)]))
    assert record.error is not None
    assert record.error.startswith(f"{clip}: a video must be whole, got ")
    assert record.error.endswith(
        f"; the {record.frames} frames that can be read are labeled; copy the file again"
    )


def test_what_has_no_picture_is_listed(segmenter: Segmenter, tmp_path: Path) -> None:
    sound, empty = write_sound(tmp_path / "sound.mp4"), tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXTINF:1\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")
    jobs = find_jobs([sound, empty, playlist], tmp_path / "out")
    records = list(predict_files(segmenter, jobs, tmp_path / "out", model_sha256="0" * 64))
    assert [one.status for one in records] == ["failed"] * 3
    assert records[0].error == f"{sound}: must hold pictures, got sound alone; give a video"
    for record, path in zip(records[1:], (empty, playlist), strict=True):
        assert record.error == (
            f"{path}: must be a video file, got invalid data found when processing input; play it "
            "with another program, or convert it; an .mp4 that was cut off lost its index"
        )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["manifest.jsonl"]


def test_a_second_run_does_what_is_left(segmenter: Segmenter, tmp_path: Path) -> None:
    clip, out = write_clip(tmp_path / "a.mp4"), tmp_path / "out"
    label(segmenter, clip, out)
    assert [one.status for one in label(segmenter, clip, out)] == ["skipped"]
    write_clip(clip, 5)
    [record] = label(segmenter, clip, out)
    assert (record.status, len(labels_in(out / "a.mp4")[0])) == ("done", 5)


def test_stopping_leaves_a_video_that_plays(segmenter: Segmenter, tmp_path: Path) -> None:
    clip, out, stop = write_clip(tmp_path / "a.mp4", 60), tmp_path / "out", threading.Event()

    def on_frame(name: str, labeled: int, total: int | None) -> None:
        assert (name, total) == (str(clip), 60)
        if labeled == 7:
            stop.set()

    [record] = label(segmenter, clip, out, stop=stop, on_frame=on_frame)
    assert isinstance(record, VideoRecord)
    assert (record.status, 7 <= record.frames < 60) == ("partial", True)
    assert record.error == (
        f"{clip}: must be labeled to its end, got an interrupt after {record.frames} frames; "
        "run the same command again"
    )
    assert len(labels_in(out / "a.mp4")[0]) == record.frames
    [again] = label(segmenter, clip, out)
    assert (again.status, len(labels_in(out / "a.mp4")[0])) == ("done", 60)


def test_a_full_disk_leaves_a_video_that_plays(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, out = write_clip(tmp_path / "a.mp4", 60), tmp_path / "out"
    write = VideoOutput.write

    def full(self: VideoOutput, image: Any, rows: Any, ticks: int) -> None:
        if self.frames == 20:
            self._file._file.close()
            self._file._file = open("/dev/full", "wb", buffering=0)  # noqa: PTH123, SIM115
        write(self, image, rows, ticks)

    monkeypatch.setattr(VideoOutput, "write", full)
    with pytest.raises(OSError) as caught:
        label(segmenter, clip, out)
    assert caught.value.errno == 28
    labels, _ = labels_in(out / "a.mp4")
    assert 1 <= len(labels) <= 20
    assert [line["status"] for line in manifest_of(out)] == ["partial"]
    monkeypatch.undo()
    [again] = label(segmenter, clip, out)
    assert (again.status, len(labels_in(out / "a.mp4")[0])) == ("done", 60)


def test_frames_become_images_that_a_second_run_keeps(segmenter: Segmenter, tmp_path: Path) -> None:
    clip, out = write_clip(tmp_path / "a.mp4", 5, ticks=UNEVEN[:5]), tmp_path / "out"
    images, times = frames_in(clip)
    *frames, last = label(segmenter, clip, out, frames=True)
    assert isinstance(last, VideoRecord)
    assert (last.output, last.status, last.frames) == ("a", "done", 5)
    for number, (record, image) in enumerate(zip(frames, images, strict=True)):
        assert isinstance(record, FrameRecord)
        assert (record.frame, record.seconds) == (number, float(times[number]))
        with Image.open(out / f"a/{number:06}.png") as made:
            assert np.array_equal(np.asarray(made), segmenter(image))
    (out / "a/000003.png").unlink()
    *frames, last = label(segmenter, clip, out, frames=True)
    assert [one.output for one in frames] == ["a/000003.png"]
    assert (last.status, len(list((out / "a").iterdir()))) == ("done", 5)
    told = summarize(out)
    assert (told.done, told.missing, told.duplicates) == (6, [], [])
    assert all(line["time_ns"] for line in manifest_of(out))


def test_images_of_frames_replace_no_other_results(segmenter: Segmenter, tmp_path: Path) -> None:
    clip, out = write_clip(tmp_path / "a.mp4", 2), tmp_path / "out"
    (out / "a").mkdir(parents=True)
    (out / "a/000001.png").write_bytes(b"mine")
    *_, last = label(segmenter, clip, out, frames=True)
    assert last.status == "partial"
    assert last.error == (
        f"{out / 'a/000001.png'}: a result replaces no file of unknown origin, got a file that no "
        "manifest lists; remove it or choose another folder"
    )
    assert (out / "a/000001.png").read_bytes() == b"mine"


def test_an_array_file_needs_frames(segmenter: Segmenter, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", 2)
    text = "predict: a video holds labels, color, overlay or confidence, got npy; "
    with refusal(ValueError, text + "pass --frames for a file per frame"):
        label(segmenter, clip, tmp_path / "out", format="npy")


def test_folders_give_pictures_and_patterns_give_videos(tmp_path: Path) -> None:
    folder, out = write_pictures(tmp_path / "in", 1), tmp_path / "out"
    (folder / "b.MP4").write_bytes(b"")
    assert [job.source.name for job in find_jobs([folder], out)] == ["00000.png"]
    jobs = find_jobs([f"{folder}/*.MP4"], out)
    assert jobs == [Job(folder / "b.MP4", Path("b.mp4"))]
    (folder / "00000.png").unlink()
    with pytest.raises(ValueError) as caught:
        find_jobs([folder], out)
    assert str(caught.value).endswith(f", or name the videos: '{folder}/*.mp4'")


def test_words_that_name_a_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (camera_of("0"), camera_of("rtsp://h/s"), camera_of("a.mp4")) == (0, "rtsp://h/s", None)
    (tmp_path / "0").touch()
    assert camera_of("0") is None
    assert safe_address("rtsp://me:secret@host:554/a?key=1") == "rtsp://host:554/a"


def test_a_camera_that_is_not_there_is_one_line(segmenter: Segmenter, tmp_path: Path) -> None:
    address = "rtsp://me:secret@127.0.0.1:9/stream"
    [record] = predict_camera(segmenter, address, tmp_path / "out", model_sha256="0" * 64)
    assert record.status == "failed"
    assert record.error == (
        "rtsp://127.0.0.1:9/stream: must be a camera or stream that can be opened, got connection "
        "refused; check that the address plays in another program"
    )
    assert "secret" not in (tmp_path / "out" / "manifest.jsonl").read_text()


def test_an_rtsp_address(segmenter: Segmenter, tmp_path: Path) -> None:
    """A server in another process shows a clip as a camera would: live, at its rate."""
    pytest.importorskip("aio_rtsp_toolkit", reason="aio-rtsp-toolkit is not installed")
    clip = write_clip(tmp_path / "a.mp4", 60, options={"movflags": "faststart"})
    out = tmp_path / "out"
    images, _ = frames_in(clip)
    with rtsp_server(tmp_path) as port:
        address = f"rtsp://me:secret@127.0.0.1:{port}/a.mp4"
        shown = list(segmenter.live(address))
        [record] = predict_camera(segmenter, address, out, model_sha256="0" * 64)
    # This server was once seen to send a frame twice.
    assert len(shown) + sum(one.dropped for one in shown) == shown[-1].index + 1 >= 60
    at = [
        next(i for i, image in enumerate(images) if np.array_equal(image, one.frame))
        for one in shown
    ]
    assert (at == sorted(at), at[-1]) == (True, 59)
    for one in shown:
        assert np.array_equal(one.labels_hw, segmenter(one.frame))
    assert isinstance(record, VideoRecord)
    assert (record.status, record.frames + record.dropped >= 60) == ("done", True)
    assert len(labels_in(out / record.output)[0]) == record.frames
    assert "secret" not in (out / "manifest.jsonl").read_text()


@contextmanager
def rtsp_server(folder: Path) -> Iterator[int]:
    """Serve the clips of a folder; give the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "import asyncio, sys; from aio_rtsp_toolkit.server import serve; "
    code += "asyncio.run(serve(sys.argv[1], host='127.0.0.1', port=int(sys.argv[2])))"
    command = [sys.executable, "-c", code, str(folder), str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            until = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    assert server.poll() is None
                    assert time.monotonic() < until
                    time.sleep(0.05)
            yield port
        finally:
            server.kill()


def test_a_stream_of_the_network(segmenter: Segmenter, tmp_path: Path) -> None:
    import http.server
    from functools import partial

    write_clip(tmp_path / "a.ts", 12)
    images, _ = frames_in(tmp_path / "a.ts")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/a.ts"
        [record] = predict_camera(segmenter, address, tmp_path / "out", model_sha256="0" * 64)
        server.shutdown()
        thread.join()
    assert isinstance(record, VideoRecord)
    assert (record.status, record.frames + record.dropped) == ("done", 12)
    labels, _ = labels_in(tmp_path / "out" / record.output)
    assert np.array_equal(labels[-1], segmenter(images[-1]))
