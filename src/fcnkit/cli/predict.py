"""``fcnkit predict``: labels for files, folders, patterns and lists."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcnkit.cli.options import (
    Backend,
    BackendOptions,
    Compute,
    Cover,
    Factory,
    Json,
    SpecFrom,
    Threads,
    Tta,
    backend_request,
    choice,
    cover_request,
    use_factory,
)
from fcnkit.cli.say import say
from fcnkit.errors import BadValueError, message, printable
from fcnkit.runtime.predict.outputs import SUFFIX_OF, Format

if TYPE_CHECKING:
    from fcnkit.runtime import Segmenter
    from fcnkit.runtime.predict.folder import Record
    from fcnkit.runtime.predict.inputs import Found
    from fcnkit.runtime.predict.overlays import OverlayStyle
    from fcnkit.runtime.predict.parts import Part

__all__ = ["predict", "say_data_sets"]

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
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop at the first that fails.")]


def predict(
    model: Annotated[Path, typer.Argument(help="best.pt, or a model that was exported.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT...", help="Pictures, folders, patterns, @list.txt, or -."),
    ] = None,
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")],
    lists: Annotated[
        list[str] | None,
        typer.Option("--list", help="A text file with one picture per line, as @FILE."),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Mirror the tree below DIR; by default below each folder, fixed part of a "
            "pattern, or folder that the files of a list share.",
        ),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Label the I-th of N shares. All shares may run at once into one folder.",
        ),
    ] = None,
    format: Annotated[
        Format,
        choice(
            "--format",
            Format,
            "palette PNG, RGB PNG, colors over the picture, an array, or a gray PNG of confidence.",
        ),
    ] = "labels",
    class_map: ClassMap = None,
    keep: Keep = None,
    void_below: VoidBelow = None,
    confidence: Confidence = False,
    alpha: Alpha = None,
    outline: Outline = False,
    legend: Legend = None,
    cover: Cover = None,
    tile: Tile = None,
    overlap: Annotated[
        int | None, typer.Option(help="Pixels that tiles share at least; 64 by default.")
    ] = None,
    tta: Tta = None,
    backend: Backend = "auto",
    threads: Threads = None,
    compute: Compute = "auto",
    backend_options: BackendOptions = None,
    spec: SpecFrom = None,
    factory: Factory = None,
    batch: Annotated[
        int | None, typer.Option(help="Tiles per batch; by default 1 on a CPU, 8 elsewhere.")
    ] = None,
    resume: Resume = True,
    fail_fast: FailFast = False,
    max_pixels: Annotated[
        int | None, typer.Option(help="Refuse larger pictures; 89478485 by default.")
    ] = None,
    stats: Annotated[bool, typer.Option("--stats", help="Say how much memory it took.")] = False,
    as_json: Json = False,
) -> None:
    """Label every pixel of pictures and write one result each, of the picture's size."""
    from PIL import Image

    from fcnkit.runtime.files import sha256_of
    from fcnkit.runtime.predict.folder import predict_files
    from fcnkit.runtime.predict.inputs import search
    from fcnkit.runtime.predict.opening import open_segmenter
    from fcnkit.runtime.predict.parts import manifest_name
    from fcnkit.runtime.predict.picture_file import MAX_PIXELS
    from fcnkit.runtime.predict.results import ResultRequest

    style = _overlay_style(format, alpha, outline, legend)
    use_factory(factory)
    # This process reads pictures only through read_picture, whose own limit takes the place of
    # Pillow's, which no option could raise.
    Image.MAX_IMAGE_PIXELS = None
    given = _given(inputs, lists)
    share = _share(part, given, root)
    wanted = ResultRequest(map=class_map, keep=keep, void_below=void_below, confidence=confidence)
    found = search(given, out, suffix=SUFFIX_OF[format], root=root)
    total = sum(share is None or share.holds(job.output) for job in found.jobs)
    say_data_sets(found)
    request = backend_request(
        backend=backend,
        threads=threads,
        compute=compute,
        backend_options=backend_options,
        spec=spec,
    )
    covering = cover_request(cover, tile=tile, overlap=overlap, tta=tta)
    opened = open_segmenter(model, request, covering)
    with opened as segmenter, _interruptible() as stop:
        records = predict_files(
            segmenter,
            found.jobs,
            out,
            model_sha256=sha256_of(model),
            format=format,
            wanted=wanted,
            overlay=style,
            resume=resume,
            fail_fast=fail_fast,
            max_pixels=MAX_PIXELS if max_pixels is None else max_pixels,
            batch=batch,
            stop=stop,
            part=part,
        )
        start = time.perf_counter()
        # Closed whatever happens: an interrupt leaves whole files and a manifest that lists them.
        with closing(records):
            counts, totals = _consume(records, total)
        summary = {
            **_counted(found, total, counts, time.perf_counter() - start),
            **totals.facts(),
            "manifest": str(out / manifest_name(share)),
            "format": format,
            **_how(segmenter),
            **({"peak_memory_mb": _peak_memory()} if stats else {}),
        }
    _conclude(summary, found, as_json=as_json, stopped=stop.is_set())


def _conclude(summary: dict[str, Any], found: Found, *, as_json: bool, stopped: bool) -> None:
    """Say what was done, and set the exit code."""
    from fcnkit.runtime.predict.tree import in_words

    say(json.dumps(summary) if as_json else _sentence(summary))
    if found.passed_over and not as_json:
        say(f"passed over, not pictures: {printable(in_words(found.passed_over))}")
    if stopped:
        raise typer.Exit(130)
    if summary["done"] + summary["skipped"] < summary["found"]:
        raise typer.Exit(1)


def say_data_sets(found: Found) -> None:
    """Say which of the given folders are data sets, whose masks are not labeled."""
    for folder in found.data_sets:
        name = printable(str(folder))
        say(f"note: {name} is in VOC layout: only {name}/JPEGImages is labeled", err=True)


def _given(inputs: Sequence[str] | None, lists: Sequence[str] | None) -> list[str]:
    given = [*(inputs or []), *(f"@{path}" for path in lists or [])]
    if not given:
        rule, remedy = "needs INPUT or --list", "name pictures, folders or a list"
        raise BadValueError(message("predict", rule, "neither", remedy))
    return given


def _share(part: str | None, given: Sequence[str], root: Path | None) -> Part | None:
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


def _counted(found: Found, total: int, counts: dict[str, int], seconds: float) -> dict[str, Any]:
    return {
        "found": total,
        **counts,
        "passed_over": found.passed_over.total(),
        "seconds": round(seconds, 3),
        "images_per_second": round(counts["done"] / seconds, 3),
    }


def _how(segmenter: Segmenter) -> dict[str, Any]:
    tile = segmenter.tile
    return {
        "cover": segmenter.cover,
        "tile": None if tile is None else f"{tile[0]}x{tile[1]}",
        "overlap": segmenter.overlap,
        "tta": segmenter.tta,
        "backend": segmenter.backend.name,
        **segmenter.backend.details,
    }


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event; a second one stops at once."""
    stop = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    # Where Ctrl-C is ignored, as under nohup, it stays ignored.
    if before is not signal.default_int_handler:
        yield stop
        return

    def on_interrupt(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stderr.write("\nstopping: what is in flight is finished first; again to stop now\n")

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


class _Totals:
    """Pixels per class and mean confidence of all results together, those of earlier runs too."""

    def __init__(self) -> None:
        self._pixels: Counter[str] = Counter()
        self._sure = 0.0
        self._counted = 0

    def add(self, record: Record) -> None:
        """Count an image."""
        self._pixels.update(record.pixels or {})
        if record.confidence is not None and record.size is not None:
            pixels = record.size[0] * record.size[1]
            self._sure += record.confidence * pixels
            self._counted += pixels

    def facts(self) -> dict[str, Any]:
        """Return both for the summary."""
        mean = round(self._sure / self._counted, 6) if self._counted else None
        return {"pixels": dict(self._pixels.most_common()), "confidence": mean}


def _consume(records: Iterable[Record], total: int) -> tuple[dict[str, int], _Totals]:
    """Do the work, showing progress; return how many pictures came to what, and what they hold."""
    from fcnkit.cli.progress import progress_of

    counts, totals = {"done": 0, "failed": 0, "skipped": 0}, _Totals()
    # What an earlier run did and what fails says nothing about how fast this one labels.
    with progress_of(unit="images", finished=lambda: counts["done"]) as advance:
        for record in records:
            counts[record.status] += 1
            totals.add(record)
            if record.status == "failed":
                name, why = printable(" ".join(record.input.split())), record.error or ""
                say(f"failed: {why if name in why else f'{name}: {why}'}", err=True)
            if record.status != "skipped":
                advance("predict", counts["done"] + counts["failed"], total - counts["skipped"])
    return counts, totals


def _peak_memory() -> float | None:
    """Return the most memory this process has held so far, in MB; None if unknown."""
    if sys.platform == "win32":
        return None
    from fcnkit.runtime.machine import host_memory

    # The kernel's figure of this program alone, where there is one; getrusage includes the parent.
    peak_mb = host_memory()["peak_mb"]
    if peak_mb is not None:
        return round(peak_mb * 1.048576, 1)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3 / 1.024), 1)


def _sentence(summary: dict[str, Any]) -> str:
    untried = summary["found"] - summary["done"] - summary["failed"] - summary["skipped"]
    rest = f", {summary['skipped']} done before" if summary["skipped"] else ""
    rest += f", {untried} not tried" if untried else ""
    memory = summary.get("peak_memory_mb")
    return (
        f"{summary['done']} done, {summary['failed']} failed{rest} "
        f"in {summary['seconds']:.1f} s, {summary['images_per_second']:.1f} images/s "
        f"with {summary['library']} on {summary['provider']} in {summary['compute']}"
        + (f", at most {memory:.0f} MB of memory" if memory else "")
        + f"; see {summary['manifest']}"
    )
