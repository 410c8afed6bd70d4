"""Who labels the inputs of ``fcnkit predict``: this process, workers here, or workers in Ray."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from fcnkit.cli.options import use_factory
from fcnkit.cli.say import ignore_warnings_of_pillow
from fcnkit.errors import BadValueError, message

if TYPE_CHECKING:
    from collections.abc import Callable

    from fcnkit.runtime import BackendRequest, CoverRequest, Segmenter
    from fcnkit.runtime.predict.crew import Crew

__all__ = [
    "CrewRequest",
    "Device",
    "PredictCommand",
    "Processes",
    "RayAddress",
    "RayGpus",
    "abandon_of",
    "facts",
    "memory",
    "parse_devices",
    "prepare_process",
]

Processes = Annotated[
    int | None,
    typer.Option(
        "--processes",
        metavar="N",
        help="Worker processes, each with the model and its share of the cores; by default this "
        "process labels alone.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="N,...",
        help="Number of the GPU; of several, such as 0,1,2,3, each gets a worker process.",
    ),
]

RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Label on a Ray cluster: auto (where no ADDRESS follows) is the one that runs here, "
        "local a new one on this machine; or HOST:PORT.",
    ),
]
RayGpus = Annotated[
    float | None,
    typer.Option(
        "--ray-gpus", metavar="SHARE", help="Of a GPU, what each worker of Ray takes: 1 or 0.5."
    ),
]


class PredictCommand(TyperCommand):
    """Reads ``--ray`` without an address as ``--ray auto``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments of the command."""
        following = [*args[1:], "-"]
        pairs = zip(args, following, strict=True)
        bare = [one == "--ray" and after.startswith("-") for one, after in pairs]
        whole = [
            word
            for one, alone in zip(args, bare, strict=True)
            for word in ([one, "auto"] if alone else [one])
        ]
        return super().parse_args(ctx, whole)


@dataclass(frozen=True, kw_only=True)
class CrewRequest:
    """What the options of the command say about processes."""

    processes: int | None
    device: str | None
    ray: str | None
    gpus: float | None
    factory: str | None

    def check_camera(self, camera: int | str | None) -> None:
        """Refuse several processes for a camera, which has one newest frame.

        Args:
            camera: Its number or address; None where files are labeled.

        Raises:
            ValueError: There is a camera.
        """
        several = self.device if self.device is not None and "," in self.device else None
        options = (("--processes", self.processes), ("--device", several), ("--ray", self.ray))
        for name, value in options:
            if camera is not None and value is not None:
                rule, remedy = "goes with files, not with a camera", "leave it out"
                raise BadValueError(message(name, rule, f"{name} {value}", remedy))

    def open(
        self, model: Path, request: BackendRequest, covering: CoverRequest
    ) -> Segmenter | Crew:
        """Open the model in the processes that are wanted.

        Args:
            model: The file.
            request: How it is opened.
            covering: How images are covered.

        Returns:
            The model open in this process, or workers; to be closed.

        Raises:
            ValueError: The options do not fit each other.
            FcnkitError: It cannot be opened.
        """
        from fcnkit.runtime.predict.opening import open_segmenter
        from fcnkit.runtime.predict.workers import Workers

        devices, processes = parse_devices(self.device), self.processes
        prepare = partial(prepare_process, self.factory)
        if self.ray is not None:
            return self._open_ray(self.ray, model, request, covering)
        if self.gpus is not None:
            rule, remedy = "goes with --ray", "pass --device for the GPUs of this machine"
            got = f"--ray-gpus {self.gpus} alone"
            raise BadValueError(message("--ray-gpus", rule, got, remedy))
        if devices is not None and processes is not None:
            rule, remedy = "goes without --device, which says how many", "leave one of them out"
            got = f"--processes {processes} --device {self.device}"
            raise BadValueError(message("--processes", rule, got, remedy))
        if devices is not None and len(devices) == 1:
            request, devices, processes = replace(request, device=devices[0]), None, 1
        if devices is None and processes in (None, 1):
            prepare()
            return open_segmenter(model, request, covering)
        return Workers(
            model,
            processes=processes,
            devices=devices,
            backend=request,
            covering=covering,
            prepare=prepare,
        )

    def _open_ray(
        self, address: str, model: Path, request: BackendRequest, covering: CoverRequest
    ) -> Crew:
        from fcnkit.runtime.predict.ray import RayWorkers

        if self.device is not None:
            rule, remedy = "goes without --ray, which chooses GPUs", "pass --ray-gpus 1"
            got = f"--device {self.device} --ray {address}"
            raise BadValueError(message("--device", rule, got, remedy))
        return RayWorkers(
            model,
            address=address,
            processes=self.processes,
            gpus=self.gpus or 0.0,
            backend=request,
            covering=covering,
            prepare=partial(prepare_process, self.factory),
        )


def prepare_process(factory: str | None) -> None:
    """Prepare a process that labels images, this one or a worker.

    Args:
        factory: Of ``--model``.
    """
    from PIL import Image

    # The process reads pictures only through read_picture, whose own limit takes the place of
    # Pillow's, which no option could raise.
    Image.MAX_IMAGE_PIXELS = None
    ignore_warnings_of_pillow()
    use_factory(factory)


def parse_devices(text: str | None) -> list[int] | None:
    """Read ``0,1,2,3`` as numbers of GPUs.

    Args:
        text: Of ``--device``, or None.

    Returns:
        The numbers, or None for None.

    Raises:
        ValueError: text is anything else, or names a GPU twice.
    """
    if text is None:
        return None
    numbers = text.split(",")
    if not all(part.isascii() and part.isdecimal() and len(part) < 4 for part in numbers):
        rule = "is the number of a GPU, or several"
        raise BadValueError(message("--device", rule, repr(text), "write 0 or 0,1,2,3"))
    found = [int(part) for part in numbers]
    if len(set(found)) < len(found):
        raise BadValueError(message("--device", "names each GPU once", text, "write 0,1,2,3"))
    return found


def abandon_of(opened: Segmenter | Crew) -> Callable[[], object] | None:
    """Return what ends the other processes at once; None where there are none."""
    from fcnkit.runtime.predict.crew import Crew

    return opened.abandon if isinstance(opened, Crew) else None


def facts(opened: Segmenter | Crew) -> dict[str, Any]:
    """Return how a model covers images and what runs it, and what is known of its processes."""
    from fcnkit.runtime.predict.crew import Crew, facts_of

    if isinstance(opened, Crew):
        return {**opened.facts, "processes": opened.told()}
    return facts_of(opened)


def memory(summary: dict[str, Any]) -> str:
    """Return a summary's memory in words, from a comma on; empty where there is none to say."""
    words = []
    if summary.get("peak_memory_mb"):
        words.append(f"at most {summary['peak_memory_mb']:.0f} MB of memory")
    processes: list[dict[str, Any]] = summary.get("processes", [])
    if processes:
        held = [one["peak_memory_mb"] for one in processes if one["peak_memory_mb"] is not None]
        known = f" of at most {max(held):.0f} MB" if held else ""
        words.append(f"{len(processes)} worker processes{known}")
    return "".join(f", {word}" for word in words)
