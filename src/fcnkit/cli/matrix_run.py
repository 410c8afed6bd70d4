"""Runs ``fcnkit bench matrix``: exports first, then a process per row, within the time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fcnkit.cli.bench_runs import requested
from fcnkit.cli.matrix_apart import mean_iou
from fcnkit.cli.matrix_data import MatrixData, open_matrix_data
from fcnkit.cli.matrix_files import (
    ModelFile,
    Wanted,
    export_missing,
    open_sources,
    sources_and_data,
)
from fcnkit.cli.options import use_factory
from fcnkit.errors import BackendUnavailableError, BadValueError, MissingExtraError, message
from fcnkit.runtime.artifacts.description import kind_of
from fcnkit.runtime.artifacts.precisions import PRECISIONS, Compute
from fcnkit.runtime.backends.registry import BACKENDS
from fcnkit.runtime.bench.environment import describe_environment
from fcnkit.runtime.bench.matrix import RowTask, Score, Way, measure_row, ways_of
from fcnkit.runtime.bench.matrix_folder import MatrixFolder, key_of, machine_facts, open_folder
from fcnkit.runtime.bench.matrix_labels import agreement, save_labels
from fcnkit.runtime.bench.matrix_report import matrix_report
from fcnkit.runtime.bench.own_process import Answer, call_apart
from fcnkit.runtime.predict.covering import CoverRequest

if TYPE_CHECKING:
    from fcnkit.cli.progress import Advance
    from fcnkit.runtime.artifacts.spec import Head, Precision
    from fcnkit.runtime.backends.request import BackendRequest

__all__ = ["MatrixRequest", "run_matrix"]

_ABSENT: Final = (MissingExtraError.__name__, BackendUnavailableError.__name__)
"""Errors which say that a backend does not run here, whatever the ONNX file."""
_SHARE: Final = 0.75
"""Of the time left for a row that it is to measure for; starting and scoring may take longer than
expected, and a row that is not done in time is lost."""


@dataclass(frozen=True, kw_only=True)
class MatrixRequest:
    """What the user of ``fcnkit bench matrix`` typed."""

    arguments: tuple[Path, ...]
    split: str | None
    heads: tuple[Head | None, ...]
    precisions: tuple[Precision, ...]
    backends: tuple[str, ...]
    """``NAME[:COMPUTE]``; empty for all."""
    size: tuple[int, int] | None
    threads: int | None
    cover: CoverRequest
    factory: str | None
    until: float | None
    """When the time is over, by ``time.monotonic``; None never is."""
    max_drop: float


def run_matrix(request: MatrixRequest, root: Path, advance: Advance) -> dict[str, Any]:
    """Export and measure all that the folder does not hold yet.

    Args:
        request: What is wanted.
        root: The folder.
        advance: Shows progress.

    Returns:
        The report.

    Raises:
        ValueError: The request does not fit its files, or another run uses the folder.
        FcnkitError: A source or the data cannot be read.
    """
    begin = time.monotonic()
    wanted = _wanted_ways(request.backends)
    models, data_root = sources_and_data(request.arguments)
    given = open_sources(models, request.factory)
    environment = describe_environment()
    source = _source(given)
    size = request.size or source.spec.shapes.opt[1:]
    with open_folder(root) as folder:
        data = open_matrix_data(
            data_root, split=request.split, classes=source.spec.classes, size=size, folder=folder
        )
        exports = Wanted(
            heads=request.heads,
            precisions=request.precisions,
            calibration=data_root,
            data_key=data.calibration_key,
            packages=environment["packages"],
            factory=request.factory,
        )
        made = list(
            export_missing(
                given,
                exports,
                folder,
                until=None if request.until is None else (begin + request.until) / 2,
                advance=lambda done, total: advance("export", done, total),
            )
        )
        files = [*given, *(one for one in made if isinstance(one, ModelFile))]
        run = _Run(request, folder, data, environment, size)
        rows = run.measure(_plans(files, wanted), source, advance)
    rows += [one for one in made if not isinstance(one, ModelFile)]
    return matrix_report(
        rows,
        environment=environment,
        data=data.describe(),
        shape=f"{size[0]}x{size[1]}",
        baseline=run.baseline,
        max_drop=request.max_drop,
    )


def _wanted_ways(names: Sequence[str]) -> list[Way]:
    """Read what ``--backend`` was given."""
    found = []
    for name in names:
        one: BackendRequest = requested(name, None, {})
        if one.backend == "auto":
            rule, remedy = "takes the name of a backend", "leave --backend out for all of them"
            raise BadValueError(message("--backend", rule, "auto", remedy))
        found.append(Way(backend=one.backend, compute=one.compute))
    return found


def _source(files: Sequence[ModelFile]) -> ModelFile:
    """Return the file that counts as right: a checkpoint, else the most exact one."""
    order = list(PRECISIONS)
    return min(files, key=lambda file: (not file.is_checkpoint, order.index(file.spec.precision)))


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """A row to be."""

    file: ModelFile
    way: Way
    title: str

    @property
    def id(self) -> str:
        """The same for no other row."""
        return f"{self.file.sha256} {self.way.name}"


def _plans(files: Sequence[ModelFile], wanted: Sequence[Way]) -> list[_Plan]:
    names = Counter(file.path.name for file in files)
    plans = []
    for file in files:
        name = file.path.name
        if names[name] > 1:
            name = f"{name} (sha256 {file.sha256[:8]})"
        plans += [
            _Plan(file=file, way=way, title=f"{name} {way.name}")
            for way in _chosen_ways(file, wanted)
        ]
    if not plans:
        got = ", ".join(way.name for way in wanted)
        remedy = "leave it out, or give a file that it runs"
        raise BadValueError(message("--backend", "must run one of the files", got, remedy))
    return plans


def _chosen_ways(file: ModelFile, wanted: Sequence[Way]) -> list[Way]:
    """Return the ways of a file that are wanted, and what else was named for such files."""
    every = ways_of(file.path, file.spec.precision)
    if not wanted:
        return every
    found: list[Way] = []
    for way in wanted:
        if BACKENDS[way.backend].runs == kind_of(file.path):
            same = [o for o in every if (o.backend, o.compute) == (way.backend, way.compute)]
            found += same or [way]
    return found


class _Run:
    """Measures the rows of one run."""

    def __init__(
        self,
        request: MatrixRequest,
        folder: MatrixFolder,
        data: MatrixData,
        environment: dict[str, Any],
        size: tuple[int, int],
    ) -> None:
        self._request, self._folder, self._data = request, folder, data
        self._environment, self._size = environment, size
        self._before = partial(use_factory, request.factory)
        self._absent: set[tuple[str, Compute]] = set()
        """Backends, and what they compute in, that were found not to run on this machine."""
        self._reference: str = ""
        """The id of the row whose labels count as right; empty where there is truth."""
        self.baseline: str | None = None
        """The id of the row that the others are compared with."""

    def measure(
        self, plans: Sequence[_Plan], source: ModelFile, advance: Advance
    ) -> list[dict[str, Any]]:
        """Measure every row, or find it in the folder.

        Args:
            plans: The rows to be.
            source: The file that counts as right.
            advance: Shows progress.

        Returns:
            The rows, those that failed or were not reached too.
        """
        score = self._score(source)
        if isinstance(score, Answer):
            return [_without_figures(plan, score, "the source's labels: ") for plan in plans]
        rows: list[dict[str, Any]] = []
        left = sum(self._kept(plan) is None for plan in plans)
        advance("measure", 0, len(plans))
        for done, plan in enumerate(plans, start=1):
            kept = self._kept(plan)
            if kept is not None:
                rows.append({**_about(plan), "status": "done", "reason": "", **kept})
            elif not self._is_absent(plan):
                rows.append(self._measured(plan, score, left))
            left -= kept is None
            advance("measure", done, len(plans))
        measured = {row["id"] for row in rows if row["status"] == "done"}
        first = (plan.id for plan in plans if plan.file is source and plan.id in measured)
        self.baseline = self._reference or next(first, None)
        return rows

    def _score(self, source: ModelFile) -> Score | Answer:
        """Return what scores a model; the answer of the last try where no way runs the source."""
        data, request = self._data, self._request
        if data.root is not None and data.split is not None:
            return partial(mean_iou, root=data.root, split=data.split)
        labels = self._folder.work / "labels"
        labels.mkdir()
        answer = Answer(failed="no backend runs it")
        for way in ways_of(source.path, source.spec.precision):
            keep = partial(save_labels, pictures=data.pictures, folder=labels)
            order = (source.path, way.request(request.threads), request.cover)
            answer = call_apart(keep, *order, until=request.until, before=self._before)
            if answer.failed is None:
                self._reference = f"{source.sha256} {way.name}"
                return partial(
                    agreement, pictures=data.pictures, folder=labels, classes=answer.value
                )
            if answer.kind not in _ABSENT:
                break
        return answer

    def _task(self, plan: _Plan, score: Score, seconds: float | None) -> RowTask:
        request = self._request
        return RowTask(
            path=plan.file.path,
            sha256=plan.file.sha256,
            way=plan.way,
            size=self._size,
            pictures=self._data.pictures,
            score=score,
            threads=request.threads,
            cover=request.cover,
            seconds=seconds,
        )

    def _key(self, plan: _Plan) -> str:
        """Return a hash of all that the figures of a row depend on."""
        request, cover = self._request, self._request.cover
        return key_of(
            row=plan.id,
            reference=self._reference,
            data=self._data.key,
            size=self._size,
            threads=request.threads,
            cover=[cover.cover, cover.tile, cover.overlap, cover.tta],
            machine=machine_facts(self._environment),
        )

    def _kept(self, plan: _Plan) -> dict[str, Any] | None:
        return self._folder.finished(self._key(plan))

    def _is_absent(self, plan: _Plan) -> bool:
        """Whether this way, or the backend as such, was found not to run here."""
        way = plan.way
        known = {(way.backend, way.compute), (way.backend, "auto")}
        return kind_of(plan.file.path) == "onnx" and not self._absent.isdisjoint(known)

    def _measured(self, plan: _Plan, score: Score, left: int) -> dict[str, Any]:
        """Measure a row in its own process, in its share of the time that is left."""
        until = self._request.until
        now = time.monotonic()
        if until is not None and now >= until:
            return _without_figures(plan, Answer(kind="TimeoutError", failed="the time was over"))
        seconds = None if until is None else _SHARE * (until - now) / left
        task = self._task(plan, score, seconds)
        answer = call_apart(measure_row, task, self._environment, until=until, before=self._before)
        if answer.failed is not None:
            if answer.kind in _ABSENT and kind_of(plan.file.path) == "onnx":
                self._absent.add((plan.way.backend, plan.way.compute))
                row = _without_figures(plan, answer)
                return {**row, "title": f"any ONNX file {plan.way.name}"}
            return _without_figures(plan, answer)
        warnings = [*answer.warnings, *answer.value["warnings"]]
        row = {**answer.value, "warnings": list(dict.fromkeys(warnings))}
        self._folder.keep(self._key(plan), row)
        return {**_about(plan), "status": "done", "reason": "", **row}


def _about(plan: _Plan) -> dict[str, Any]:
    path, way = plan.file.path, plan.way
    return {
        "id": plan.id,
        "title": plan.title,
        "model": path.name,
        "model_sha256": plan.file.sha256,
        "bytes": path.stat().st_size,
        "backend": way.backend,
        "compute": way.compute,
    }


def _without_figures(plan: _Plan, answer: Answer, where: str = "") -> dict[str, Any]:
    status = "not reached" if answer.kind == "TimeoutError" else "failed"
    return {**_about(plan), "status": status, "reason": f"{where}{answer.failed}"}
