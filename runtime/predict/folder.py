"""Labeling many picture files and videos into an output folder with a manifest."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.checks import check_flag, check_type
from fcnkit.runtime.predict.band_store import BandFolder
from fcnkit.runtime.predict.claims import Claims, read_claim
from fcnkit.runtime.predict.crew import Crew, Labeling
from fcnkit.runtime.predict.file_task import Place
from fcnkit.runtime.predict.inputs import SUFFIXES, Job, Listing, find_jobs
from fcnkit.runtime.predict.job_stream import Listed, left_to_do, together
from fcnkit.runtime.predict.manifest import Manifest, Record
from fcnkit.runtime.predict.output_folder import opened_folder
from fcnkit.runtime.predict.outputs import SUFFIX_OF, Format
from fcnkit.runtime.predict.overlays import OverlayStyle
from fcnkit.runtime.predict.parts import MANIFEST, PARTIAL, Part
from fcnkit.runtime.predict.picture_file import MAX_PIXELS
from fcnkit.runtime.predict.region import Region
from fcnkit.runtime.predict.results import ResultRequest
from fcnkit.runtime.predict.run import FolderRun, RunControl, RunRequest
from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.runtime.predict.staging import Staging
from fcnkit.runtime.predict.store_manifest import StoreManifest
from fcnkit.runtime.predict.store_run import label_on_stores
from fcnkit.runtime.predict.stores import Store
from fcnkit.runtime.predict.urls import Url, is_url, path_or_url
from fcnkit.runtime.predict.video_run import OnFrame

__all__ = [
    "MANIFEST",
    "SUFFIXES",
    "SUFFIX_OF",
    "Format",
    "Job",
    "Record",
    "find_jobs",
    "predict_files",
    "run_into",
]


_ON_STORE: Final = 8
"""Threads of a run into a store: they wait for it more than they work."""


def predict_files(
    segmenter: Segmenter | Crew,
    jobs: Iterable[Job],
    out: str | Path,
    *,
    model_sha256: str,
    format: Format = "labels",
    wanted: ResultRequest | None = None,
    overlay: OverlayStyle | None = None,
    region: Region | None = None,
    resume: bool = True,
    fail_fast: bool = False,
    max_pixels: int = MAX_PIXELS,
    batch: int | None = None,
    workers: int | None = None,
    stop: threading.Event | None = None,
    part: str | None = None,
    frames: bool = False,
    on_frame: OnFrame | None = None,
    listed: Listed | None = None,
    hash_inputs: bool = False,
) -> Generator[Record, None, None]:
    """Label pictures and videos and write one result each, and a line of the manifest each.

    A picture that cannot be read or covered is recorded and skipped; a result that cannot be
    written ends the run, because the next ones would fail too.

    Args:
        segmenter: The model, used by this thread only; or ``Workers``, which hold it open in
            several processes, or ``RayWorkers``.
        jobs: What ``find_jobs`` found, or a ``Listing``; each has an output name that no other
            has. The first 4,096 are taken and checked before anything is written, the others
            as the run comes to them.
        out: The output folder, made where needed; one run at a time writes into it. Or the address
            of one on a store, such as ``s3://bucket/labels``.
        model_sha256: Hash of the model file, for the manifest.
        format: What to write.
        wanted: What is made of the labels before; by default nothing.
        overlay: How overlays look; None for the default.
        region: Which pixels of every picture are labeled; None for all. Not for videos.
        resume: Skip what the manifest and a valid output prove done with the same model and
            options from a picture that has not changed since.
        fail_fast: Stop after the first picture that fails.
        max_pixels: Larger pictures fail before they are decoded, unless the segmenter has a
            ``tile``: then they go through in bands.
        batch: Tiles of one shape that share a batch, of different pictures too; by default 1 on
            a CPU and 8 elsewhere.
        workers: Threads that decode and write; by default 2 beside a model on the CPU, one per
            core elsewhere, and 8 where results go to a store.
        stop: Once set, no picture is begun any more; those in flight are finished. A video ends
            there, with the status ``partial``.
        part: ``I/N`` with I from 1 to N: label only the I-th of N shares of the jobs. All parts
            may run at once into one folder. The name of a result decides which part makes it.
        frames: Write an image per frame of a video, and a line of the manifest each, into a
            folder with the name of the result.
        on_frame: Called after each frame of a video.
        listed: Gets how many pictures and videos were found so far, and whether these are all.
        hash_inputs: Tell pictures by their SHA-256, which the manifest then holds, and not by
            their time. Reads every picture once more, also those that are done.

    Returns:
        A generator that does the work as it is consumed, one record per picture or video: for a
        video a ``VideoRecord``, with ``frames`` after a ``FrameRecord`` each. Closing it early
        waits for what is in flight.

    Raises:
        TypeError: max_pixels, batch or workers is not an integer, or format or model_sha256 no
            text; when called.
        ValueError: format is unknown, part is not I/N, max_pixels, batch or workers below 1,
            workers above 256, a rule of wanted does not fit the model, or confidence is needed and
            the model gives none; when called. Two results have one name, or format has no form as
            a video; from the iterator.
        DataError: Another run writes into the folder, or a result would replace one of another
            picture; from the iterator, before anything is written for that picture.
        OSError: A result cannot be written; from the iterator.
        FcnkitError: Every worker process has ended; from the iterator.
    """
    if workers is None and is_url(out):
        workers = _ON_STORE
    request = RunRequest(
        model_sha256=model_sha256,
        format=format,
        wanted=wanted,
        overlay=overlay,
        max_pixels=max_pixels,
        region=region,
        batch=batch,
        workers=workers,
        frames=frames,
        hash_inputs=hash_inputs,
    )
    control = RunControl(
        fail_fast=check_flag("predict: fail_fast", fail_fast),
        stop=stop or threading.Event(),
        on_frame=on_frame,
    )
    run: Labeling
    if isinstance(segmenter, Crew):
        run = segmenter.begin(request, control)
    else:
        check_type("predict_files: segmenter", segmenter, Segmenter)
        run = FolderRun(segmenter, request, control)
    check_flag("predict: resume", resume)
    listed = Listed() if listed is None else listed
    check_type("predict_files: listed", listed, Listed)
    return _anywhere(
        _Call(
            run=run,
            request=request,
            jobs=jobs,
            out=path_or_url(out),
            listed=listed,
            resume=resume,
            part=None if part is None else Part.parse(part),
        )
    )


def run_into(
    segmenter: Segmenter,
    jobs: Iterable[Job],
    staging: Staging,
    claims: Claims,
    request: RunRequest,
) -> Generator[Record, None, None]:
    """Label pictures as ``predict_files`` does, without a manifest.

    Args:
        segmenter: As for ``predict_files``.
        jobs: Asked for as the run comes to them.
        staging: Where results are written until they are whole; says the output folder.
        claims: Of the same output folder.
        request: What is made of them.

    Returns:
        As for ``predict_files``.

    Raises:
        ValueError: As for ``predict_files``.
        DataError: A result would replace another picture's; from the iterator.
        OSError: A result cannot be written; from the iterator.
    """
    place = Place(staging=staging, publish=claims.publish, keep=lambda _: None)
    return FolderRun(segmenter, request).records(jobs, place)


@dataclass(frozen=True, kw_only=True)
class _Call:
    """One call of ``predict_files``, checked."""

    run: Labeling
    request: RunRequest
    jobs: Iterable[Job]
    out: Path | Url
    listed: Listed
    resume: bool
    part: Part | None

    def items(
        self,
        *,
        earlier: Callable[[Job], Record | None],
        check: Callable[[Job], object],
        fold: bool,
    ) -> Iterator[Job | Record]:
        """Return the jobs of this part, and for those that are done what the manifest says."""
        return left_to_do(
            self.jobs,
            self.out,
            self.listed,
            earlier=earlier,
            check=check,
            format=self.request.format,
            frames=self.request.frames,
            fold=fold,
            part=self.part,
            region=self.request.region or Region(),
        )


def _anywhere(call: _Call) -> Generator[Record, None, None]:
    """Label pictures with a locked manifest if all is on this machine, else by way of stores."""
    jobs = call.jobs
    on_store = isinstance(call.out, Url) or (isinstance(jobs, Listing) and jobs.on_store)
    left = iter(jobs)
    first = list(islice(left, 1))  # of a list, the first says where all are
    on_store |= any(isinstance(job.source, Url) for job in first)
    label = _with_stores if on_store else _with_manifest
    yield from label(replace(call, jobs=chain(first, left)))


def _with_manifest(call: _Call) -> Generator[Record, None, None]:
    request, out = call.request, Path(call.out)
    bands = BandFolder(out)
    out.mkdir(parents=True, exist_ok=True)
    manifest = Manifest(
        out,
        options=call.run.options,
        model_sha256=request.model_sha256,
        resume=call.resume,
        part=call.part,
        hashed=request.hash_inputs,
    )
    with opened_folder(manifest, out, resume=call.resume, part=call.part) as (place, staging):

        def earlier(job: Job) -> Record | None:
            record = manifest.earlier(job.input_name, job.output_name)
            if record is not None:
                bands.forget(job.output_name)
            return record

        items = call.items(
            earlier=earlier,
            check=lambda job: manifest.check(job.file, job.output, read_claim(out, job.output)),
            fold=staging.folds_case(),
        )

        def is_done(source: Path, output: Path) -> bool:
            return manifest.earlier(source, output) is not None

        yield from call.run.labeled(together(items), place, is_done)


def _with_stores(call: _Call) -> Generator[Record, None, None]:
    run, request, out = call.run, call.request, call.out
    if not run.sees_this_machine:
        rule, remedy = "Ray labels files that every node sees", "mount the store"
        raise BadValueError(message("predict", rule, str(out), remedy))
    if request.hash_inputs:
        rule = "objects are told by their size and time, not by a hash"
        raise BadValueError(message("predict", rule, f"a hash and {out}", "leave the hash out"))
    store = Store(out)
    with (
        TemporaryDirectory(prefix="fcnkit-") as name,
        StoreManifest(
            store,
            Path(name),
            options=run.options,
            model_sha256=request.model_sha256,
            resume=call.resume,
        ) as manifest,
    ):
        items = call.items(
            earlier=manifest.earlier,
            check=manifest.check,
            fold=isinstance(out, Path) and _folds_case(out),
        )
        yield from label_on_stores(
            lambda items, place: run.labeled(items, place, lambda *_: False),
            together(manifest.announced(items)),
            store,
            manifest,
            Path(name),
        )


def _folds_case(out: Path) -> bool:
    out.mkdir(parents=True, exist_ok=True)
    with Staging(out, name=f"{PARTIAL}-{secrets.token_hex(8)}") as staging:
        return staging.folds_case()
