"""Pictures that are told by their bytes: ``--hash``."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from fcnkit.errors import BadValueError, DataError
from fcnkit.runtime import Segmenter, find_jobs, predict_files
from fcnkit.runtime.predict import identity
from tests.refusal import refusal
from tests.runtime.pictures import manifest_of, write_pictures

COUNT = 3


def run(segmenter: Segmenter, source: Path, out: Path, *, hashed: bool = True) -> list[str]:
    jobs = find_jobs([source], out)
    records = predict_files(segmenter, jobs, out, model_sha256="ab", hash_inputs=hashed)
    return [record.status for record in sorted(records, key=lambda record: record.output)]


def test_the_manifest_holds_the_hash(tmp_path: Path, segmenter: Segmenter) -> None:
    source, out = write_pictures(tmp_path / "in", COUNT), tmp_path / "out"
    (source / "gone.png").symlink_to(tmp_path / "nothing")
    assert run(segmenter, source, out) == ["done"] * COUNT + ["failed"]
    hashes = {line["output"]: line["input_sha256"] for line in manifest_of(out)}
    assert hashes.pop("gone.png") is None
    assert hashes == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in source.iterdir()
        if path.exists()
    }
    (source / "gone.png").unlink()
    assert run(segmenter, source, out) == ["skipped"] * COUNT
    assert run(segmenter, source, out, hashed=False) == ["skipped"] * COUNT


def test_copies_with_other_times_are_the_same_pictures(
    tmp_path: Path, segmenter: Segmenter
) -> None:
    source, out = write_pictures(tmp_path / "in", COUNT), tmp_path / "out"
    run(segmenter, source, out)
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    for path in copy.iterdir():
        os.utime(path, ns=(1, 1))
    with pytest.raises(DataError, match="a result replaces only results of the same picture"):
        run(segmenter, copy, out, hashed=False)
    assert run(segmenter, copy, out) == ["skipped"] * COUNT
    (copy / "00001.png").write_bytes((copy / "00000.png").read_bytes())
    with pytest.raises(DataError, match="a result replaces only results of the same picture"):
        run(segmenter, copy, out)


def test_other_bytes_with_the_old_size_and_time(tmp_path: Path, segmenter: Segmenter) -> None:
    source, out = write_pictures(tmp_path / "in", COUNT), tmp_path / "out"
    run(segmenter, source, out)
    path = source / "00001.png"
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # of the checksum of the end, which Pillow does not read
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run(segmenter, source, out, hashed=False) == ["skipped"] * COUNT
    assert run(segmenter, source, out) == ["skipped", "done", "skipped"]


def test_what_was_labeled_without_a_hash_is_labeled_again(
    tmp_path: Path, segmenter: Segmenter
) -> None:
    source, out = write_pictures(tmp_path / "in", COUNT), tmp_path / "out"
    run(segmenter, source, out, hashed=False)
    assert run(segmenter, source, out) == ["done"] * COUNT
    assert run(segmenter, source, out) == ["skipped"] * COUNT
    manifest = out / "manifest.jsonl"
    lines = [line | {"input_sha256": 7} for line in manifest_of(out)]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run(segmenter, source, out) == ["done"] * COUNT


def test_a_video_is_read_once_for_all_of_its_frames(
    tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av")
    from tests.runtime.clips import write_clip

    clip, out = write_clip(tmp_path / "a.mp4"), tmp_path / "out"
    read: list[Path] = []
    whole = identity.sha256_of

    def counted(path: Path) -> str:
        read.append(path)
        return whole(path)

    monkeypatch.setattr(identity, "sha256_of", counted)
    for expected in (["done"] * 13, ["done"]):  # all frames and the video; then it alone
        read.clear()
        jobs = find_jobs([clip], out)
        records = predict_files(
            segmenter, jobs, out, model_sha256="ab", frames=True, hash_inputs=True
        )
        assert [record.status for record in records] == expected
        assert len(read) <= 3


def test_objects_have_no_hash(tmp_path: Path, segmenter: Segmenter) -> None:
    source = write_pictures(tmp_path / "in", 1)
    jobs = find_jobs([source], tmp_path / "out")
    text = (
        "predict: objects are told by their size and time, not by a hash, got a hash and "
        "memory://out; leave the hash out"
    )
    with refusal(BadValueError, text):
        list(predict_files(segmenter, jobs, "memory://out", model_sha256="ab", hash_inputs=True))
