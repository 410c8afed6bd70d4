"""``fcnkit predict``: labels for files, folders, patterns and lists."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcnkit.cli.documented import documented
from fcnkit.cli.interrupts import interruptible
from fcnkit.cli.options import (
    Backend,
    BackendOptions,
    Compute,
    Cover,
    Factory,
    Json,
    Model,
    SpecFrom,
    Threads,
    Tta,
    backend_request,
    choice,
    cover_request,
)
from fcnkit.cli.predict_crew import (
    CrewRequest,
    Device,
    Processes,
    RayAddress,
    RayGpus,
    abandon_of,
    facts,
    memory,
)
from fcnkit.cli.predict_region import Mask, Nodata, Window, region_of
from fcnkit.cli.predict_tally import Tally
from fcnkit.cli.say import say
from fcnkit.errors import BadValueError, message, printable
from fcnkit.runtime.predict.outputs import FORMATS, SUFFIX_OF, Format

if TYPE_CHECKING:
    from fcnkit.runtime.predict.inputs import Listing
    from fcnkit.runtime.predict.overlays import OverlayStyle
    from fcnkit.runtime.predict.parts import Part
    from fcnkit.runtime.predict.urls import Url

__all__ = ["predict", "say_data_set"]

Tile = Annotated[
    str | None,
    typer.Option(metavar="HxW", help="Size of the tiles, for average; larger pictures stream."),
]
ClassMap = Annotated[
    str | None,
    typer.Option(
        "--map",
        metavar="OLD=NEW,...",
        help="Which class becomes which, by name or id: truck=car,7=void,*=other; or @FILE.",
    ),
]
Keep = Annotated[
    str | None,
    typer.Option(metavar="A,B,...", help="Classes that stay; the others become void; or @FILE."),
]
VoidBelow = Annotated[
    float | None,
    typer.Option(metavar="P", help="Make pixels void whose label is less probable: 0.6."),
]
Confidence = Annotated[
    bool, typer.Option("--confidence", help="Say how sure the model is, in the manifest.")
]
Alpha = Annotated[
    float | None, typer.Option(help="Of an overlay: weight of the colors, 0..1; 0.5 by default.")
]
Outline = Annotated[
    bool, typer.Option("--outline", help="Of an overlay: a line where a class begins.")
]
Legend = Annotated[
    bool | None,
    typer.Option("--legend/--no-legend", help="Of an overlay: name the classes below the picture."),
]
Resume = Annotated[bool, typer.Option(help="Skip what the manifest and a valid output prove done.")]
Frames = Annotated[
    bool, typer.Option("--frames", help="Of a video or camera, write one image per frame.")
]
Seconds = Annotated[
    float | None, typer.Option(help="End a camera after that time; by default Ctrl-C ends it.")
]
HashInputs = Annotated[
    bool,
    typer.Option("--hash", help="Tell pictures by their SHA-256, in the manifest, not by time."),
]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop at the first that fails.")]

_SAYS = [row.says for row in FORMATS.values()]


@documented
def predict(
    model: Model,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT...",
            help="Pictures, videos, folders, patterns, @list.txt, or -; s3://BUCKET/FOLDER; or one "
            "camera: its number or rtsp://HOST/STREAM.",
        ),
    ] = None,
    *,
    out: Annotated[str, typer.Option("-o", "--out", metavar="DIR")],
    lists: Annotated[list[str] | None, typer.Option("--list")] = None,
    root: Annotated[str | None, typer.Option(metavar="DIR")] = None,
    part: Annotated[str | None, typer.Option(metavar="I/N")] = None,
    format: Annotated[
        Format,
        choice("--format", Format, f"{', '.join(_SAYS[:-1])}, or {_SAYS[-1]}."),
    ] = "labels",
    class_map: ClassMap = None,
    keep: Keep = None,
    void_below: VoidBelow = None,
    confidence: Confidence = False,
    alpha: Alpha = None,
    outline: Outline = False,
    legend: Legend = None,
    window: Window = None,
    nodata: Nodata = None,
    mask: Mask = None,
    cover: Cover = None,
    tile: Tile = None,
    overlap: int | None = None,
    tta: Tta = None,
    processes: Processes = None,
    device: Device = None,
    ray: RayAddress = None,
    ray_gpus: RayGpus = None,
    backend: Backend = "auto",
    threads: Threads = None,
    compute: Compute = "auto",
    backend_options: BackendOptions = None,
    spec: SpecFrom = None,
    factory: Factory = None,
    batch: int | None = None,
    resume: Resume = True,
    hash_inputs: HashInputs = False,
    fail_fast: FailFast = False,
    max_pixels: int | None = None,
    frames: Frames = False,
    seconds: Seconds = None,
    stats: Annotated[bool, typer.Option("--stats")] = False,
    as_json: Json = False,
) -> None:
    """Label every pixel of pictures and videos and write one result each, of the same size.

    Options:
        out: Folder for the results.
        lists: A text file with one picture per line, the same as @FILE.
        root: Mirror the tree below DIR; by default below each folder, fixed part of a pattern, or
            folder that the files of a list share.
        part: Label the I-th of N shares. All shares may run at once into one folder.
        overlap: Pixels that tiles share at least; 64 by default.
        batch: Tiles per batch; by default 1 on a CPU, 8 elsewhere.
        max_pixels: Refuse larger pictures; 89478485 by default.
        stats: Say how much memory it took.
    """
    from fcnkit.runtime.files import sha256_of
    from fcnkit.runtime.machine import peak_memory_mb
    from fcnkit.runtime.predict.camera import predict_camera
    from fcnkit.runtime.predict.folder import predict_files
    from fcnkit.runtime.predict.inputs import Listing
    from fcnkit.runtime.predict.job_stream import Listed
    from fcnkit.runtime.predict.picture_file import MAX_PIXELS
    from fcnkit.runtime.predict.results import ResultRequest
    from fcnkit.runtime.predict.segmenter import Segmenter

    style = _overlay_style(format, alpha, outline, legend)
    given = _given(inputs, lists)
    share, camera = _share(part, given, root), _only_camera(given, seconds)
    region = region_of(window, nodata, mask, camera)
    crew = CrewRequest(processes=processes, device=device, ray=ray, gpus=ray_gpus, factory=factory)
    crew.check_camera(camera)
    wanted = ResultRequest(map=class_map, keep=keep, void_below=void_below, confidence=confidence)
    read = partial(Listing, suffix=SUFFIX_OF[format], root=root, on_data_set=say_data_set)
    listing = read(given if camera is None else [], out)
    asked = partial(backend_request, backend=backend, threads=threads, compute=compute)
    request = asked(backend_options=backend_options, spec=spec)
    covering = cover_request(cover, tile=tile, overlap=overlap, tta=tta)
    with (
        crew.open(model, request, covering) as segmenter,
        interruptible(abandon_of(segmenter)) as interrupt,
    ):
        listed = Listed() if camera is None else Listed(1, complete=True)
        run = partial(predict_files, segmenter, listing, batch=batch, part=part, listed=listed)
        run = partial(run, resume=resume, fail_fast=fail_fast, hash_inputs=hash_inputs)
        run = partial(run, region=region)
        if camera is not None:
            assert isinstance(segmenter, Segmenter)  # check_camera says so
            run = partial(predict_camera, segmenter, camera, seconds=seconds)
        tally = Tally(listed)
        records = run(
            out,
            model_sha256=sha256_of(model),
            format=format,
            wanted=wanted,
            overlay=style,
            max_pixels=MAX_PIXELS if max_pixels is None else max_pixels,
            frames=frames,
            stop=interrupt.stop,
            on_frame=tally.on_frame,
        )
        start = time.perf_counter()
        # Closed whatever happens: an interrupt leaves whole files and a manifest that lists them.
        with closing(records):
            tally.consume(records)
        summary = {
            **_counted(listing, tally, time.perf_counter() - start),
            **tally.totals.facts(),
            "manifest": _manifest(out, listing, share),
            "format": format,
            **facts(segmenter),
            **({"peak_memory_mb": peak_memory_mb()} if stats else {}),
        }
    # Ctrl-C is how a camera ends.
    code = interrupt.code if camera is None else 0
    _conclude(summary, listing, as_json=as_json, code=code)


def _conclude(summary: dict[str, Any], listing: Listing, *, as_json: bool, code: int) -> None:
    """Say what was done, and set the exit code."""
    from fcnkit.runtime.predict.tree import in_words

    say(json.dumps(summary) if as_json else _sentence(summary))
    if listing.passed_over and not as_json:
        say(f"passed over, not pictures: {printable(in_words(listing.passed_over))}")
    if code:
        raise typer.Exit(code)
    if summary["done"] + summary["skipped"] < summary["found"]:
        raise typer.Exit(1)


def _only_camera(given: Sequence[str], seconds: float | None) -> int | str | None:
    """Return the camera or address that is given; None where files are."""
    from fcnkit.runtime.predict.video_in import camera_of

    cameras = [camera for text in given if (camera := camera_of(text)) is not None]
    if cameras and len(given) > 1:
        rule, remedy = "a camera is the only INPUT", "run fcnkit predict for each, with its own OUT"
        raise BadValueError(message("predict", rule, f"{len(given)} inputs", remedy))
    if seconds is not None and not cameras:
        rule, remedy = "--seconds needs a camera or an address", "leave it out"
        raise BadValueError(message("predict", rule, " ".join(given), remedy))
    return cameras[0] if cameras else None


def say_data_set(folder: Path | Url) -> None:
    """Say that a folder is a data set, whose masks are not labeled."""
    name = printable(str(folder))
    say(f"note: {name} is in VOC layout: only {name}/JPEGImages is labeled", err=True)


def _given(inputs: Sequence[str] | None, lists: Sequence[str] | None) -> list[str]:
    given = [*(inputs or []), *(f"@{path}" for path in lists or [])]
    if not given:
        rule, remedy = "needs INPUT or --list", "name pictures, folders or a list"
        raise BadValueError(message("predict", rule, "neither", remedy))
    return given


def _manifest(out: str, listing: Listing, share: Part | None) -> str:
    """Return where the manifest is; on an object store it comes in pieces."""
    from fcnkit.runtime.predict.parts import PIECES, manifest_name
    from fcnkit.runtime.predict.urls import Url, path_or_url

    place = path_or_url(out)
    pieces = isinstance(place, Url) or listing.on_store
    return str(place / (PIECES if pieces else manifest_name(share)))


def _share(part: str | None, given: Sequence[str], root: str | None) -> Part | None:
    """Return the part, which has the same pictures wherever and whenever the command runs."""
    from fcnkit.runtime.predict.parts import Part

    if part is None:
        return None
    share = Part.parse(part)
    lists = [text for text in given if (text == "-" or text[:1] == "@") and not Path(text).exists()]
    if lists and root is None:
        # Results of a list mirror the folder that its files share, which a longer list may change.
        rule, remedy = "--part of a list needs --root", "pass the folder that holds every picture"
        raise BadValueError(message("predict", rule, lists[0], remedy))
    return share


def _overlay_style(
    format: Format, alpha: float | None, outline: bool, legend: bool | None
) -> OverlayStyle | None:
    """Return how an overlay looks; None for other formats."""
    from fcnkit.runtime.predict.overlays import OverlayStyle

    options = (
        ("--alpha", alpha is not None),
        ("--outline", outline),
        ("--legend", legend is not None),
    )
    for option, given in options:
        if given and format != "overlay":
            rule, remedy = "goes with --format overlay", "leave it out"
            raise BadValueError(message(option, rule, f"--format {format}", remedy))
    if format != "overlay":
        return None
    plain = OverlayStyle(outline=outline, legend=legend is not False)
    return plain if alpha is None else replace(plain, alpha=alpha)


def _counted(listing: Listing, tally: Tally, seconds: float) -> dict[str, Any]:
    return {
        "found": tally.listed.count,
        "found_all": tally.listed.complete,
        **tally.counts,
        **tally.videos,
        "passed_over": listing.passed_over.total(),
        "seconds": round(seconds, 3),
        "images_per_second": round(tally.labeled / seconds, 3),
    }


def _sentence(summary: dict[str, Any]) -> str:
    in_part = summary.get("partial", 0)
    untried = summary["found"] - summary["done"] - summary["failed"] - summary["skipped"] - in_part
    rest = f", {summary['skipped']} done before" if summary["skipped"] else ""
    rest += f", {in_part} in part" if in_part else ""
    rest += f", {untried} not tried" if untried > 0 else ""
    rest += "" if summary["found_all"] else ", the others not listed"
    rest += f", {summary['frames']} frames" if "frames" in summary else ""
    rest += f", {summary['dropped']} dropped" if summary.get("dropped") else ""
    return (
        f"{summary['done']} done, {summary['failed']} failed{rest} "
        f"in {summary['seconds']:.1f} s, {summary['images_per_second']:.1f} images/s "
        f"with {summary['library']} on {summary['provider']} in {summary['compute']}"
        + memory(summary)
        + f"; see {summary['manifest']}"
    )
