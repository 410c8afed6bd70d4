"""How many wrong models the comparison of ``fcnkit verify`` finds.

    python -m benchmarks.mutants [--networks A,B] [--heads logits,labels,scene]
        [--precisions fp32,fp16,int8] [--names GLOB] [--json FILE]

Each mutant is an exported graph with one fault (``mutants_list``). It is made in float32, brought
to the precision and head as an export does it, and compared with the network in PyTorch by the code
of ``fcnkit verify``. In float32 the same mutant also takes the place of an engine in the comparison
that follows a build, run by ONNX Runtime. A mutant of something that the network does not have does
not count. The sound graphs must pass.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from benchmarks.mutants_list import MUTANTS, Mutant
from fcnkit.errors import FcnkitError
from fcnkit.export.build import Typing, build_typed, head_spec, to_precision, trace_core
from fcnkit.export.calibration import (
    Calibration,
    open_calibration,
    sized_pictures,
)
from fcnkit.export.engine_verify import compare_engine
from fcnkit.export.precision import default_kept
from fcnkit.export.saving import save_model
from fcnkit.export.scene import wrap_scene
from fcnkit.export.subject import Answer, Subject, open_subject
from fcnkit.export.verification import verify
from fcnkit.runtime.artifacts.onnx_file import KEPT_KEY
from fcnkit.runtime.artifacts.precisions import PRECISIONS
from fcnkit.runtime.artifacts.spec import ModelSpec, ShapeRange
from fcnkit.runtime.backends.base import Backend
from fcnkit.runtime.backends.opening import open_backend
from fcnkit.train.backend import TorchBackend
from fcnkit.train.checkpoint import checkpoint_spec
from fcnkit.train.data.shapes import write_shapes
from tests.train.networks import lively

CLASSES = ("background", "circle", "square", "triangle", "star", "ring")
PIXELS = 3 * 64 * 160
SOUND = Mutant("sound", lambda _: True)
PROFILE = ShapeRange(min=(1, 32, 32), opt=(1, 96, 128), max=(4, 160, 160))
SCENE_PROFILE = ShapeRange(min=(1, 32, 32), opt=(1, 96, 128), max=(1, 160, 160))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What became of a mutant."""

    network: str
    head: str
    precision: str
    gate: str
    """``verify`` or ``engine``."""
    mutant: str
    caught: bool
    reason: str
    """Why it was refused, or what was measured of one that was not."""
    labels_changed: float | None
    """Share of the labels that differ in the picture where most do; None where it was refused
    before it ran."""


class Remembering(Subject):
    """The sound side, which is asked the same by every mutant."""

    known: dict[tuple[tuple[int, ...], bytes], Answer]

    def answer(self, image_nhwc: NDArray[np.uint8]) -> Answer:
        """Answer as before where the pictures are the same."""
        key = (image_nhwc.shape, image_nhwc.tobytes())
        if key not in self.known:
            self.known[key] = super().answer(image_nhwc)
        return self.known[key]


class Stand:
    """A network whose mutants are tried."""

    def __init__(self, network: str, folder: Path) -> None:
        self.network, self.folder = network, folder
        palette = tuple((i, i, i) for i in range(len(CLASSES)))
        self.spec = checkpoint_spec(network, CLASSES, palette)
        net = lively(network, len(CLASSES))
        self.core = trace_core(net, len(CLASSES))
        backend = TorchBackend(net, self.spec, device=torch.device("cpu"))
        self.source = Remembering(backend, name="network", kind="checkpoint", sha256=None)
        self.source.known = {}
        self.calibration: Calibration = open_calibration(folder / "shapes")

    def write(self, head: str, precision: str, mutant: Mutant) -> Path | None:
        """Write a mutant as a file; None where it changes nothing."""
        spec = head_spec(self.spec, head, sha256="0", precision=precision)  # type: ignore[arg-type]
        plain_spec = head_spec(self.spec, head, sha256="0")  # type: ignore[arg-type]
        plain, _, _ = build_typed(self.core, plain_spec, Typing())
        # The modules that stay in float32 are those of the sound graph.
        kept = _kept(self.core, spec)
        if not mutant.whole and not mutant.change(plain.graph):
            return None
        model = to_precision(plain, spec, kept, Typing(calibration=self.calibration))
        if head == "scene":
            model = wrap_scene(model)
        if mutant.whole and not (head == "scene" and mutant.change(model.graph)):
            return None
        path = self.folder / "mutant.onnx"
        save_model(model, spec, path, notes={KEPT_KEY: ", ".join(kept)})
        return path

    def verified(self, head: str, precision: str, mutant: Mutant) -> Trial | None:
        """Compare with PyTorch."""
        caught, reason, changed = True, "", None
        try:
            path = self.write(head, precision, mutant)
            if path is None:
                return None
            quantized = PRECISIONS[precision].quantized  # type: ignore[index]
            pictures = sized_pictures(self.calibration, self.spec) if quantized else None
            with open_subject(path) as side:
                report = verify(self.source, side, pictures=pictures, max_pixels=PIXELS)
            caught = bool(report.failures)
            reason = ", ".join(report.failures) or report.summary()
            changed = 1 - report.difference.least_agreement
        except (
            FcnkitError,
            onnx.checker.ValidationError,
            onnx.shape_inference.InferenceError,
        ) as error:
            reason = str(error)
        except Exception as error:  # the quantizer runs a mutant and fails in its own ways
            reason = f"{type(error).__name__}: {error}"
        return self._trial(head, precision, "verify", mutant, caught, reason, changed)

    def built(self, head: str, mutant: Mutant) -> Trial | None:
        """Compare in an engine's place with the sound ONNX file."""
        sound = self.write(head, "fp32", SOUND)
        assert sound is not None
        reference = sound.rename(self.folder / "sound.onnx")
        caught, reason = True, ""
        try:
            path = self.write(head, "fp32", mutant)
            if path is None:
                return None
            with (
                open_backend(path, backend="onnxruntime") as ours,
                open_backend(reference, backend="onnxruntime") as theirs,
            ):
                reason = compare_engine(
                    Subject(theirs, name="sound", kind="onnx", sha256=None),
                    _as_engine(ours),
                )
            caught = False
        except FcnkitError as error:
            reason = str(error)
        return self._trial(head, "fp32", "engine", mutant, caught, reason, None)

    def _trial(
        self,
        head: str,
        precision: str,
        gate: str,
        mutant: Mutant,
        caught: bool,
        reason: str,
        changed: float | None,
    ) -> Trial:
        return Trial(
            network=self.network,
            head=head,
            precision=precision,
            gate=gate,
            mutant=mutant.name,
            caught=caught,
            reason=" ".join(reason.split())[:300],
            labels_changed=changed,
        )


def _kept(core: Any, spec: ModelSpec) -> tuple[str, ...]:
    return default_kept(spec.precision, core)


def _as_engine(backend: Backend) -> Subject:
    """Let an ONNX session stand for an engine with one profile."""
    profile = SCENE_PROFILE if backend.spec.head == "scene" else PROFILE
    return Subject(backend, name="mutant", kind="engine", sha256=None, profiles=(profile,))


def trials(options: argparse.Namespace) -> Iterator[Trial]:
    """Try every mutant that was chosen; the sound graphs first."""
    chosen = [mutant for mutant in MUTANTS if fnmatch.fnmatch(mutant.name, options.names)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_shapes(folder / "shapes", train=16, val=1, seed=0)
        for network in options.networks.split(","):
            stand = Stand(network, folder)
            for precision in options.precisions.split(","):
                for head in options.heads.split(","):
                    _require_sound(stand.verified(head, precision, SOUND))
                    for mutant in chosen:
                        yield from _tried(stand.verified(head, precision, mutant))
                        if precision == "fp32":
                            yield from _tried(stand.built(head, mutant))


def _tried(trial: Trial | None) -> Iterator[Trial]:
    if trial is not None:
        yield trial


def _require_sound(trial: Trial | None) -> None:
    if trial is None or trial.caught:
        raise SystemExit(f"the sound graph must pass: {trial}")


def summary(done: list[Trial]) -> str:
    """Return the rates by gate and precision as Markdown, and every survivor."""
    lines = ["| comparison | precision | mutants | caught | |", "|---|---|---:|---:|---:|"]
    groups = sorted({(t.gate, t.precision) for t in done}, key=lambda g: (g[0] != "verify", g[1]))
    for gate, precision in groups:
        of = [t for t in done if (t.gate, t.precision) == (gate, precision)]
        caught = sum(t.caught for t in of)
        lines.append(
            f"| {gate} | {precision} | {len(of)} | {caught} | {100 * caught / len(of):.1f} % |"
        )
    lines += ["", "Survivors:"]
    for t in done:
        if not t.caught:
            lines.append(f"- {t.gate} {t.precision} {t.network} {t.head}: {t.mutant} ({t.reason})")
    return "\n".join(lines)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default="fcn32s-resnet18,fpn-resnet18")
    parser.add_argument("--heads", default="logits,labels,scene")
    parser.add_argument("--precisions", default="fp32,fp16,int8")
    parser.add_argument("--names", default="*")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    logging.getLogger("fcnkit").setLevel(logging.CRITICAL)
    done = []
    for trial in trials(options):
        done.append(trial)
        if options.json:
            with options.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(trial)) + "\n")
    print(summary(done))


if __name__ == "__main__":
    main()
