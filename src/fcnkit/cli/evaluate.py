"""``fcnkit eval``: score a checkpoint or an exported model on a labeled folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcnkit.cli import options
from fcnkit.cli.documented import documented
from fcnkit.cli.following import say_next
from fcnkit.cli.say import say
from fcnkit.errors import BadValueError, message, missing_extra

if TYPE_CHECKING:
    from fcnkit.train.data.voc import VocFolder
    from fcnkit.train.evaluation import Measure

__all__ = ["evaluate", "warnings_of"]


@documented
def evaluate(
    model: options.Model,
    data: Annotated[Path, typer.Argument(help="Folder in VOC layout.")],
    *,
    split: str = "val",
    cover: options.Cover = None,
    tta: options.Tta = None,
    report: Path | None = None,
    d2l_protocol: Annotated[bool, typer.Option("--d2l-protocol")] = False,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    backend: options.Backend = "auto",
    compute: options.Compute = "auto",
    threads: options.Threads = None,
    backend_option: options.BackendOptions = None,
    spec: options.SpecFrom = None,
    factory: options.Factory = None,
    as_json: options.Json = False,
) -> None:
    """Score a model on a labeled folder: full pictures, void ignored.

    Options:
        split: Which list.
        report: Folder for a page with confusions and worst pictures.
        d2l_protocol: As the d2l.ai chapter: random crops, void as background.
        seed: Of the crops of --d2l-protocol; 0 by default.
    """
    from fcnkit.cli.progress import progress_of
    from fcnkit.runtime.artifacts.description import kind_of
    from fcnkit.runtime.predict.joining import gives_confidence
    from fcnkit.runtime.predict.opening import open_segmenter
    from fcnkit.train.data.voc import open_voc
    from fcnkit.train.evaluation import Protocol, measure

    options.use_factory(factory)
    # Before anything is measured: a report needs more packages than the measure does.
    write_report = _report_writer() if report else None
    folder = open_voc(data, split=split)
    if seed is not None and not d2l_protocol:
        rule, remedy = "draws the crops of --d2l-protocol", "add that option, or leave it out"
        raise BadValueError(message("--seed", rule, f"{seed} without it", remedy))
    protocol = Protocol.of_the_chapter(seed=seed or 0) if d2l_protocol else Protocol()
    opened = open_segmenter(
        model,
        options.backend_request(
            backend=backend,
            threads=threads,
            compute=compute,
            backend_options=backend_option,
            spec=spec,
        ),
        options.cover_request(cover, tta=tta),
    )
    with opened as segmenter, progress_of(unit="images") as advance:
        measured = measure(
            segmenter,
            folder,
            protocol=protocol,
            calibration=gives_confidence(segmenter.spec),
            on_picture=lambda done, total: advance("evaluate", done, total),
        )
        facts: dict[str, Any] = {"model": str(model), "data": str(data), "split": split}
        facts |= {"cover": segmenter.cover, "tta": segmenter.tta}
        facts |= {"pictures": len(protocol.samples(folder))}
        facts |= {"backend": segmenter.backend.name, **segmenter.backend.details}
        facts["protocol"] = protocol.note(folder)
        facts["without_truth"] = list(measured.without_truth)
        facts["expected_calibration_error"] = measured.calibration_error
        facts["warnings"] = warnings_of(measured, folder)
        if write_report and report:
            write_report(report, measured, segmenter, folder, facts=facts)
    for line in facts["warnings"]:
        say(f"warning: {line}", err=True)
    if as_json:
        say(json.dumps({**facts, **measured.scores.to_dict()}))
        return
    if d2l_protocol:
        say(facts["protocol"])
    _print(measured)
    if report:
        say(f"wrote {report}: look at index.html")
    if kind_of(model) == "checkpoint":
        say_next("export", "onnx", model, "-o", model.with_name("model.onnx"))


def _report_writer() -> Callable[..., None]:
    try:
        from fcnkit.train.report import write_report
    except ModuleNotFoundError as error:
        raise missing_extra("fcnkit eval --report", str(error.name), "train") from error
    return write_report


def warnings_of(measured: Measure, folder: VocFolder) -> list[str]:
    """Return why the scores of a measure may say nothing; nothing where they say something.

    Args:
        measured: What was measured.
        folder: On what.
    """
    if measured.tells:
        return []
    shown = next(name for name in measured.classes if name not in measured.without_truth)
    rule = "two classes or more must have pixels, or the scores say nothing"
    remedy = "choose a --split whose masks show others"
    return [message(f"{folder.root}: {folder.split}", rule, f"only {shown}", remedy)]


def _print(measured: Measure) -> None:
    scores = measured.scores
    for name in ("pixel_accuracy", "class_accuracy", "mean_iou", "frequency_weighted_iou"):
        say(f"{name}: {getattr(scores, name):.4f}")
    if measured.calibration_error is not None:
        say(f"expected_calibration_error: {measured.calibration_error:.4f}")
    for name, value in scores.iou.items():
        shown = "absent" if value is None else f"{value:.4f}"
        if value is not None and name in measured.without_truth:
            shown += " (predicted, and in no mask)"
        say(f"iou {name}: {shown}")
