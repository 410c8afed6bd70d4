"""The same model file with several versions of a library: how fast, and whether the labels agree.

Each version runs in its own process and environment. The processes take turns, so that a
slow moment of the machine hits all of them.
"""

from __future__ import annotations

import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from fcnkit.errors import BackendUnavailableError, BadValueError, message
from fcnkit.runtime.backends.registry import BACKENDS, BackendRow
from fcnkit.runtime.backends.request import BackendRequest
from fcnkit.runtime.bench.trial_environment import make_environment
from fcnkit.runtime.checks import check_int
from fcnkit.runtime.predict.covering import Cover

__all__ = ["ACROSS_FORMAT", "AcrossRequest", "VersionRow", "Versions", "measure_across"]

ACROSS_FORMAT: Final = "fcnkit-bench-across-1"
_DIFFERS: Final = 0.05
"""A version counts as slower or faster where it was, by more than this, in every round."""
_WORDS: Final = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.*+!_-]+(?:,[A-Za-z0-9.*+!_-]+)*)"
)


@dataclass(frozen=True, kw_only=True)
class Versions:
    """Versions of one package."""

    package: str
    versions: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``onnxruntime==1.27,1.31``.

        Raises:
            ValueError: The text has another form, names a version twice, or names a package that
                no backend is made of.
        """
        found = _WORDS.fullmatch(text.strip())
        if found is None:
            rule, remedy = "must be PACKAGE==VERSION,...", "write onnxruntime==1.27,1.31"
            raise BadValueError(message("--versions", rule, repr(text), remedy))
        package, versions = found[1], tuple(found[2].split(","))
        if len(set(versions)) < len(versions):
            rule, remedy = "must name each version once", "leave the second one out"
            raise BadValueError(message("--versions", rule, text, remedy))
        _rows_of(package)
        return cls(package=package, versions=versions)


def _rows_of(package: str) -> list[BackendRow]:
    """Return the backends whose library is this package."""
    rows = [row for row in BACKENDS.values() if row.packages[0] == package]
    if not rows:
        known = dict.fromkeys(row.packages[0] for row in BACKENDS.values())
        rule = f"must name the package of a backend: {', '.join(known)}"
        raise BadValueError(message("--versions", rule, package, "name one of these"))
    return rows


@dataclass(frozen=True, kw_only=True)
class AcrossRequest:
    """What is to be compared.

    Raises:
        TypeError: runs or rounds is not an integer.
        ValueError: One of them is below 1, or the backend is not one of the package.
    """

    model: Path
    versions: Versions
    backend: str | None = None
    """None takes the package's first backend."""
    threads: int | None = None
    options: Mapping[str, str] | None = None
    cover: Cover | None = None
    size: tuple[int, int] | None = None
    """Height and width of an image; None for the model's own."""
    images: Sequence[Path] = ()
    """Images whose labels are compared; without any, three made-up ones."""
    runs: int = 40
    """Calls of each version in each round."""
    rounds: int = 5

    def __post_init__(self) -> None:
        """Check every field."""
        check_int("bench across: runs", self.runs, 1, 1_000_000)
        check_int("bench across: rounds", self.rounds, 1, 10_000)
        names = [row.name for row in _rows_of(self.versions.package)]
        if self.backend is not None and self.backend not in names:
            rule = f"must be one that runs with {self.versions.package}: {', '.join(names)}"
            raise BadValueError(message("--backend", rule, self.backend, "leave it out"))

    @property
    def row(self) -> BackendRow:
        """The backend."""
        return BACKENDS[self.backend] if self.backend else _rows_of(self.versions.package)[0]


@dataclass(frozen=True, kw_only=True)
class VersionRow:
    """What one version came to."""

    requested: str
    """As it was requested; ``here`` for the version of this environment."""
    version: str | None
    """The installed version; None where it could not be installed or opened."""
    error: str | None = None
    """Why there are no figures."""
    details: Mapping[str, Any] | None = None
    open_ms: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    ratio: float | None = None
    """Its time as a multiple of the first row's that has figures: the median over the rounds."""
    ratio_range: tuple[float, float] | None = None
    """The smallest and the largest over the rounds."""
    same_labels: float | None = None
    """Share of pixels with the label of that row."""
    ms: Sequence[Sequence[float]] = ()
    """Every call, round by round."""

    @property
    def verdict(self) -> str:
        """``slower``, ``faster``, ``same``, or nothing where there is nothing to compare."""
        if self.ratio_range is None:
            return ""
        low, high = self.ratio_range
        if low > 1 + _DIFFERS:
            return "slower"
        return "faster" if high < 1 / (1 + _DIFFERS) else "same"


class _Version:
    """One version in its process."""

    def __init__(
        self, requested: str, python: Path | None, log: Path, error: str | None = None
    ) -> None:
        self.requested, self.error, self._log = requested, error, log
        self.about: dict[str, Any] = {}
        self.rounds: list[list[float]] = []
        self.labels: list[NDArray[np.uint8]] = []
        self._process: subprocess.Popen[str] | None = None
        if python is not None:
            with log.open("wb") as errors:
                self._process = subprocess.Popen(
                    # -P: nothing in the working folder may take the place of a library.
                    [str(python), "-P", "-m", "fcnkit.runtime.bench.across_worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    encoding="utf-8",
                )

    def ask(self, task: Mapping[str, Any]) -> dict[str, Any] | None:
        """Give the process a task; None where it failed, now or before."""
        if self.error is not None or self._process is None:
            return None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(task) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            said = self._log.read_text("utf-8", errors="replace").strip().splitlines()
            self.error = f"its process ended with {self._process.wait()}"
            self.error += f": {said[-1]}" if said else ""
            return None
        found: dict[str, Any] = json.loads(line)
        self.error = found.get("error")
        return found if self.error is None else None

    def close(self) -> None:
        """End the process."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._process.stdout, contextlib.suppress(BrokenPipeError):  # it may have ended
            self._process.stdin.close()
        self._process.wait()


def measure_across(
    request: AcrossRequest, *, tell: Callable[[str], object] = lambda _: None
) -> list[VersionRow]:
    """Run a model with each version of a library, and with the version in this environment.

    Args:
        request: What is to be compared.
        tell: Called with a line at each step.

    Returns:
        A row per version: first the version in this environment, where the package is installed. A
        version that fails is a row with its reason.

    Raises:
        BackendUnavailableError: No version could be installed.
    """
    with tempfile.TemporaryDirectory(prefix="fcnkit-across-") as name, ExitStack() as stack:
        versions = _started(request, Path(name), tell)
        for one in versions:
            stack.callback(one.close)
        for one in versions:
            one.about = one.ask(_settings(request)) or {}
        _compare_labels(versions, Path(name), tell)
        for number in range(request.rounds):
            tell(f"round {number + 1} of {request.rounds}")
            # The order is reversed each time, so that no version always follows the same one.
            for one in versions if number % 2 else versions[::-1]:
                found = one.ask({"do": "measure", "runs": request.runs})
                if found is not None:
                    one.rounds.append(found["ms"])
    return _rows(versions)


def _started(request: AcrossRequest, folder: Path, tell: Callable[[str], object]) -> list[_Version]:
    """Make the environments, and start a process in each."""
    package = request.versions.package
    made: list[tuple[str, Path | None, str | None]] = []
    refused: list[BackendUnavailableError] = []
    for number, wanted in enumerate(request.versions.versions):
        tell(f"installing {package}=={wanted}")
        try:
            python = make_environment(folder / str(number), f"{package}=={wanted}")
            made.append((wanted, python, None))
        except BackendUnavailableError as error:
            refused.append(error)
            made.append((wanted, None, str(error)))
    if len(refused) == len(made):
        raise refused[0]
    if _is_installed(package):
        made.insert(0, ("here", Path(sys.executable), None))
    return [
        _Version(wanted, python, folder / f"{number}.txt", error)
        for number, (wanted, python, error) in enumerate(made)
    ]


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _settings(request: AcrossRequest) -> dict[str, Any]:
    opened = BackendRequest(
        backend=request.row.name, threads=request.threads, options=request.options or {}
    )
    return {
        "model": str(request.model),
        "package": request.versions.package,
        "backend": {**asdict(opened), "options": dict(opened.options)},
        "cover": request.cover,
        "size": request.size,
        "images": [str(path) for path in request.images],
    }


def _compare_labels(
    versions: Sequence[_Version], folder: Path, tell: Callable[[str], object]
) -> None:
    tell("comparing labels")
    for number, one in enumerate(versions):
        path = folder / f"labels-{number}.npz"
        if one.ask({"do": "labels", "out": str(path)}) is not None:
            with np.load(path) as held:
                one.labels = list(held.values())


def _rows(versions: Sequence[_Version]) -> list[VersionRow]:
    base = next((one for one in versions if one.error is None), None)
    return [_row(one, base) for one in versions]


def _row(one: _Version, base: _Version | None) -> VersionRow:
    if one.error is not None or base is None:
        found = one.about.get("version")
        return VersionRow(requested=one.requested, version=found, error=one.error)
    every = np.concatenate([np.array(times) for times in one.rounds])
    ratios = [
        statistics.median(own) / statistics.median(other)
        for own, other in zip(one.rounds, base.rounds, strict=True)
    ]
    same = sum(int((a == b).sum()) for a, b in zip(one.labels, base.labels, strict=True))
    return VersionRow(
        requested=one.requested,
        version=one.about["version"],
        details=one.about["details"],
        open_ms=one.about["open_ms"],
        p50_ms=float(np.percentile(every, 50)),
        p99_ms=float(np.percentile(every, 99)),
        ratio=statistics.median(ratios),
        ratio_range=(min(ratios), max(ratios)),
        same_labels=same / sum(labels.size for labels in base.labels),
        ms=one.rounds,
    )
