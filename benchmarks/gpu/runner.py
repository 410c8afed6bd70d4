"""Run stages one after the other, each in a separate process, and lose nothing of what they find.

A stage may crash, hang, fill the memory or print garbage: the next one runs all the same, and the
report says what happened. The report is a JSON file that is whole at every moment.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

from benchmarks.gpu.context import Settings
from benchmarks.gpu.processes import MARK, end_stage, stage_memory
from fcnkit.runtime.files import atomic_path

__all__ = ["Report", "Stage", "run_stages"]

State = Literal["running", "done", "failed", "crashed", "timeout", "memory", "stopped", "skipped"]

ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One process."""

    name: str
    """Its key in the report."""
    target: str
    """The function, as ``module:function``; it is called with a Context."""
    seconds: float
    """Its time limit."""


class Report:
    """The findings, in a file that is replaced as a whole whenever something is added."""

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        """Write a first report, so that a path that cannot be written fails before any stage.

        Args:
            path: The JSON file; its folder exists.
            head: What the report begins with.

        Raises:
            OSError: It cannot be written.
        """
        self.path = path
        self.lock = threading.RLock()
        """Held by whoever changes the content, for a stage's readers are threads."""
        self.content: dict[str, Any] = {**head, "state": "running", "stages": {}}
        self.write()

    def write(self) -> None:
        """Replace the file by what is known now."""
        with self.lock:
            text = json.dumps(self.content, indent=1, allow_nan=False)
            with atomic_path(self.path, sync=False) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")


LEAST: Final = 5.0
"""With fewer seconds left, a stage is not begun."""


def run_stages(
    stages: Sequence[Stage], report: Report, settings: Settings, *, budget: float, memory: int
) -> None:
    """Run stages in order until they are done or the budget is spent.

    Args:
        stages: What to run, the most important first.
        report: Where findings go.
        settings: Handed to each stage.
        budget: Seconds for all of them; a stage gets its limit or what is left, if that is less.
        memory: Bytes that a stage's processes may hold together.

    Raises:
        KeyboardInterrupt: Ctrl-C; the stage was ended and the report says so.
    """
    end = time.monotonic() + budget
    for stage in stages:
        left = end - time.monotonic()
        if left < LEAST:
            reason = f"{max(left, 0):.0f} s of the budget of {budget:g} s were left"
            report.content["stages"][stage.name] = {"state": "skipped", "reason": reason}
            continue
        record = report.content["stages"][stage.name] = {"state": "running", "findings": {}}
        running = _Running(stage, report, record, settings)
        running.run(limit=min(stage.seconds, left), memory=memory)
        print(f"{stage.name}: {record['state']}, {record['seconds']} s", file=sys.stderr)
    report.content["state"] = "finished"
    report.write()


MOST_FINDINGS: Final = 2000
MOST_LINE: Final = 1 << 18
MOST_BYTES: Final = 4 << 20
MOST_LEVELS: Final = 30
"""Bounds of what is kept of a stage, so that a flood does not make the report unreadable."""
MOST_OUTPUT: Final = 4000
"""Characters of a stage's own output that are kept: the last ones."""


class _Running:
    """A stage's process, and the threads that read what it says."""

    def __init__(
        self, stage: Stage, report: Report, record: dict[str, Any], settings: Settings
    ) -> None:
        self.stage, self.report, self.record = stage, report, record
        self.changed = threading.Event()
        self.lock = report.lock
        self.output = ""
        self.mark = uuid.uuid4().hex
        read, write = os.pipe()
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu.child"]
        try:
            self.process = subprocess.Popen(
                [*command, stage.target, settings.to_json(), str(write)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=os.environ | {MARK: self.mark},
                pass_fds=(write,),
                start_new_session=True,  # Ctrl-C is for the runner, which ends the stage
            )
        finally:
            os.close(write)
        stdout = self.process.stdout
        assert stdout is not None
        self.threads = [
            threading.Thread(
                target=self._read_findings, args=(os.fdopen(read, "rb"),), daemon=True
            ),
            threading.Thread(target=self._read_output, args=(stdout,), daemon=True),
        ]

    def run(self, *, limit: float, memory: int) -> None:
        """Wait for the end, or bring it about."""
        started = time.monotonic()
        self.record["limit_seconds"] = round(limit, 1)
        for thread in self.threads:
            thread.start()
        state: State = "stopped"
        reason: str | None = "the run was stopped"
        try:
            state, reason = self._wait(started + limit, memory, limit)
        finally:
            end_stage(self.mark)
            self.process.wait()
            for thread in self.threads:
                thread.join(timeout=5)
            with self.lock:
                self.record |= {"state": state, "seconds": round(time.monotonic() - started, 1)}
                self.record |= {"reason": reason} if reason else {}
                self.record |= {"output": self.output} if self.output else {}
                self.report.write()

    def _wait(self, end: float, memory: int, limit: float) -> tuple[State, str | None]:
        while self.process.poll() is None:
            if time.monotonic() >= end:
                return "timeout", f"it ran for {limit:.0f} s, its limit"
            held = stage_memory(self.mark)
            if held > memory:
                return "memory", f"it held {held >> 20} MiB; its limit is {memory >> 20} MiB"
            if self.changed.wait(timeout=min(0.25, max(0.0, end - time.monotonic()))):
                self.changed.clear()
                self.report.write()
        code = self.process.returncode
        if code == 0:
            return "done", None
        if code > 0:
            return "failed", f"it ended with exit code {code}"
        return "crashed", f"it was ended by {signal.Signals(-code).name}"

    def _read_findings(self, pipe: IO[bytes]) -> None:
        """Keep every line that is a finding; count what is none."""
        kept = 0
        with pipe:
            for line in iter(lambda: pipe.readline(MOST_LINE), b""):
                kept += len(line)
                found = _finding(line) if kept <= MOST_BYTES else None
                with self.lock:
                    findings = self.record["findings"]
                    if found is None or len(findings) >= MOST_FINDINGS:
                        self.record["not_findings"] = self.record.get("not_findings", 0) + 1
                    else:
                        findings[found[0]] = found[1]
                        self.changed.set()

    def _read_output(self, pipe: IO[bytes]) -> None:
        with pipe:
            while block := pipe.read1(1 << 16):  # type: ignore[attr-defined]
                text = block.decode("utf-8", "replace").replace("\0", "")
                with self.lock:
                    self.output = (self.output + text)[-MOST_OUTPUT:]


def _finding(line: bytes) -> tuple[str, Any] | None:
    """Read ``{"key": ..., "value": ...}``, or None where the line is anything else."""

    def refuse(constant: str) -> Any:
        raise ValueError(constant)  # NaN and Infinity are not JSON

    try:
        item = json.loads(line, parse_constant=refuse)
        key, value = item["key"], item["value"]
        json.dumps(value, allow_nan=False)  # 1e999 can be read and not be written
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return (key, value) if isinstance(key, str) and _is_shallow(value, MOST_LEVELS) else None


def _is_shallow(value: Any, levels: int) -> bool:
    """Whether nested lists and dicts are at most this many levels deep."""
    if not isinstance(value, (dict, list)):
        return True
    children = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(child, levels - 1) for child in children)
