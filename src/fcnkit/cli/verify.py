"""``fcnkit verify``: whether two models are the same one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcnkit.cli import options
from fcnkit.cli.documented import documented
from fcnkit.cli.progress import progress_of
from fcnkit.cli.say import say
from fcnkit.errors import BadValueError, message, missing_extra, printable

if TYPE_CHECKING:
    from fcnkit.export.verify_data import ComparisonData
    from fcnkit.runtime.backends.request import BackendRequest

__all__ = ["verify"]


@documented
def verify(
    a: Annotated[Path, typer.Argument(help="The model that is right: .pt, .onnx or .engine.")],
    b: Annotated[Path | None, typer.Argument(help="The model in question.")] = None,
    *,
    labels: Path | None = None,
    data: Path | None = None,
    split: str | None = None,
    max_pixels: Annotated[int, typer.Option(min=1024)] = 2**18,
    max_error: float | None = None,
    min_agreement: float | None = None,
    max_miou_drop: float | None = None,
    backend: options.Backend = "auto",
    threads: options.Threads = None,
    compute: options.Compute = "auto",
    backend_options: options.BackendOptions = None,
    spec: options.SpecFrom = None,
    factory: options.Factory = None,
    as_json: options.Json = False,
) -> None:
    """Compare two models on the same pictures; a difference out of tolerance is an error.

    Options:
        labels: In place of B: PNG labels of another client for the images of --data.
        data: Folder in VOC layout or of pictures to compare on too.
        split: Which list of --data; val by default.
        max_pixels: Pixels of a batch; larger shapes are cut down.
        max_error: Largest error of a logit, as a share of the largest.
        min_agreement: Smallest share of equal labels, with and without data.
        max_miou_drop: Largest loss of mean IoU on --data.
    """
    try:
        from fcnkit.export import verification as module
        from fcnkit.export.subject import open_subject
        from fcnkit.export.verify_data import open_comparison_data
    except ModuleNotFoundError as error:
        raise missing_extra("fcnkit verify", str(error.name), "export") from error
    options.use_factory(factory)
    limits = {"--max-error": max_error, "--max-miou-drop": max_miou_drop}
    _check_sides(b, labels, data, split, limits)
    request = options.backend_request(
        backend=backend,
        threads=threads,
        compute=compute,
        backend_options=backend_options,
        spec=spec,
    )
    pictures = open_comparison_data(data, split=split or "val") if data else None
    if b is None or labels is not None:
        if labels is None or pictures is None:
            raise AssertionError  # only for type checkers: _check_sides refused it
        _verify_labels(a, labels, pictures, min_agreement, request, as_json=as_json)
        return
    with (
        open_subject(a, request) as first,
        open_subject(b, request) as second,
        progress_of(unit="images") as advance,
    ):
        given = {
            "max_error": max_error,
            "min_agreement": min_agreement,
            "max_miou_drop": max_miou_drop,
        }
        default = module.default_tolerance(first, second)
        report = module.verify(
            first,
            second,
            data=pictures,
            tolerance=replace(default, **{k: v for k, v in given.items() if v is not None}),
            max_pixels=max_pixels,
            on_picture=lambda done, total: advance("verify", done, total),
        )
    measured = {
        "--max-error": (max_error, report.difference.max_error),
        "--max-miou-drop": (max_miou_drop, report.data and report.data.miou_drop),
    }
    for option, (limit, figure) in measured.items():
        if limit is not None and figure is None:
            rule = "limits what can be measured: logits of both sides, a score on labeled data"
            raise BadValueError(message(option, rule, "models or data without", "leave it out"))
    if as_json:
        say(report.to_json())
    else:
        _print(report.summary(), report.data.summary() if report.data else None, report.bounded)
        for side in (report.a, report.b):
            if side["matches_its_report"] is False:
                say(f"{side['name']} was changed after the report beside it was written")
    module.require(report, remedy="one of the two was changed, or another export is meant")


def _check_sides(
    b: Path | None,
    labels: Path | None,
    data: Path | None,
    split: str | None,
    limits: dict[str, float | None],
) -> None:
    """Refuse options that do not go together."""
    if split is not None and data is None:
        rule, remedy = "names a list of --data", "add --data, or leave it out"
        raise BadValueError(message("--split", rule, f"{split} without --data", remedy))
    if (b is None) == (labels is None):
        rule, remedy = "compares A with a model B or with --labels", "give one of the two"
        got = "neither" if b is None else "both"
        raise BadValueError(message("fcnkit verify", rule, got, remedy))
    if labels is None:
        return
    if data is None:
        rule, remedy = "needs the images that were labeled", "add --data IMAGES"
        raise BadValueError(message("--labels", rule, "no --data", remedy))
    for option, value in limits.items():
        if value is not None:
            remedy = "leave it out"
            raise BadValueError(message(option, "goes with a model B", "--labels", remedy))


def _verify_labels(
    model: Path,
    labels: Path,
    images: ComparisonData,
    min_agreement: float | None,
    request: BackendRequest,
    *,
    as_json: bool,
) -> None:
    """Compare a client's labels with those of a model."""
    from fcnkit.export.client_labels import compare_client_labels, require_agreement
    from fcnkit.runtime.predict.opening import open_segmenter

    with (
        open_segmenter(model, request, options.cover_request(None)) as segmenter,
        progress_of(unit="images") as advance,
    ):
        report = compare_client_labels(
            segmenter,
            segmenter.spec,
            labels,
            images,
            on_picture=lambda done, total: advance("verify", done, total),
        )
    for line in [report.to_json()] if as_json else map(printable, report.lines()):
        say(line)
    require_agreement(report, 0.999 if min_agreement is None else min_agreement)


def _print(summary: str, on_data: str | None, bounded: tuple[str, ...]) -> None:
    say(summary)
    for line in bounded:
        say(f"largest shape {line}")
    if on_data:
        say(on_data)
