"""What a stage gets: how much to do, where to work, and the way to say what it found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from fcnkit.runtime.artifacts.spec import Shape

__all__ = ["Context", "Settings"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much to do, and where."""

    dry: bool
    """On a CPU and in small, to try the stages themselves."""
    folder: str
    """For models, pictures and labels; stages share it."""

    def to_json(self) -> str:
        """Return it as text, for the command line of a stage's process."""
        return json.dumps(asdict(self))


class Context:
    """One stage's view of the run."""

    def __init__(self, settings: Settings, channel: int) -> None:
        """Take over the channel to the runner.

        Args:
            settings: How much to do, and where.
            channel: The file descriptor that findings are written to.
        """
        self.dry = settings.dry
        self.folder = Path(settings.folder)
        self._channel = channel

    @property
    def sides(self) -> tuple[int, int]:
        """Rows and columns of the network's input: 360x480 grown to multiples of 32."""
        return (64, 96) if self.dry else (384, 480)

    @property
    def batches(self) -> tuple[int, ...]:
        """Images per call."""
        return (1, 2) if self.dry else (1, 8, 16)

    @property
    def seconds(self) -> float:
        """How long one number is measured."""
        return 0.05 if self.dry else 1.0

    @property
    def backend(self) -> str:
        """ONNX Runtime's backend."""
        return "onnxruntime" if self.dry else "onnxruntime-cuda"

    @property
    def device(self) -> str:
        """PyTorch's device."""
        return "cpu" if self.dry else "cuda"

    def shape(self, images: int) -> Shape:
        """The shape of a batch."""
        return (images, *self.sides)

    def say(self, key: str, value: object) -> None:
        """Hand a finding to the runner, which writes it to the report."""
        try:
            line = json.dumps({"key": key, "value": value}, default=str, allow_nan=False)
        except ValueError:  # not a number, or infinite
            line = json.dumps({"key": key, "value": {"error": f"not a finite number: {value}"}})
        data = f"{line}\n".encode()
        while data:
            data = data[os.write(self._channel, data) :]

    def attempt(self, key: str, work: Callable[[], T]) -> T | None:
        """Do something and say what came of it, or its error: the next finding must not be lost.

        Args:
            key: The finding's name.
            work: Returns what can be said in JSON.

        Returns:
            What ``work`` returned, or None where it failed.
        """
        try:
            value = work()
        except Exception as error:
            self.fail(key, error)
            return None
        self.say(key, value)
        return value

    def opened(self, key: str, work: Callable[[], T]) -> T | None:
        """Do something whose result is not a finding; report only its error."""
        try:
            return work()
        except Exception as error:
            self.fail(key, error)
            return None

    def fail(self, key: str, error: Exception) -> None:
        """Say an error."""
        text = f"{type(error).__name__}: {error}"[:2000]
        self.say(key, {"error": text, "trace": traceback.format_exc()[-2000:]})

    def printed(self, *command: str, seconds: float = 30) -> str:
        """Run a command and return what it printed, the last 4000 characters."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        return f"{done.stdout}{done.stderr}".strip()[-4000:]

    def python(self, *words: str, seconds: float) -> str:
        """Run this Python and return what it printed; anything but success is an error."""
        command = [sys.executable, "-W", "ignore", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        text = f"{done.stdout}{done.stderr}".strip()[-4000:]
        if done.returncode:
            raise RuntimeError(f"{' '.join(words[:3])} ended with {done.returncode}: {text}")
        return text
