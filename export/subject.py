"""One side of a comparison: a checkpoint, an ONNX file or an engine, opened for pictures."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fcnkit.export.biased import BiasedLabels, open_biased
from fcnkit.export.comparison_images import normalized
from fcnkit.export.full_logits import full_logits
from fcnkit.runtime.artifacts.description import ModelKind, kind_of
from fcnkit.runtime.artifacts.engine_file import read_engine_file
from fcnkit.runtime.artifacts.last_layer import LastLayerWeights
from fcnkit.runtime.artifacts.onnx_file import read_onnx_file
from fcnkit.runtime.artifacts.onnx_precision import PrecisionProof
from fcnkit.runtime.artifacts.spec import ModelSpec, Shape, ShapeRange
from fcnkit.runtime.backends.base import Backend
from fcnkit.runtime.backends.opening import open_model, read_last_layer
from fcnkit.runtime.backends.request import BackendRequest
from fcnkit.runtime.closing import Closing
from fcnkit.runtime.files import sha256_of
from fcnkit.runtime.pixels.tiling import plan_tiles
from fcnkit.runtime.pixels.upsampling import upsample_argmax

__all__ = ["Answer", "Subject", "SubjectKind", "open_subject", "verify_path"]

SubjectKind = ModelKind | Literal["module"]
"""What is compared: a file, or a module in memory."""


def verify_path(model: Path) -> Path:
    """Return where a model's report lies: ``model.verify.json`` beside ``model.onnx``."""
    return model.with_suffix(".verify.json")


def _is_reported(model: Path, sha256: str) -> bool | None:
    """Whether the report beside a model was written for this very file; None without one."""
    path = verify_path(model)
    if not path.is_file():
        return None
    try:
        recorded = json.loads(path.read_bytes())["b"]["sha256"]
    except (ValueError, KeyError, TypeError):
        return False
    return bool(recorded == sha256)


@dataclass(frozen=True)
class Answer:
    """What a model says of pictures."""

    labels_nhw: NDArray[np.int64]
    logits_nchw: NDArray[np.float64] | None
    """None where the model gives labels only."""
    confidence_nhw: NDArray[np.float64] | None = None
    """Probability of the labels; None where the model does not say it."""


class Subject(Closing):
    """An opened model and what identifies it."""

    def __init__(
        self,
        backend: Backend,
        *,
        name: str,
        kind: SubjectKind,
        sha256: str | None,
        proof: PrecisionProof | None = None,
        reported: bool | None = None,
        profiles: tuple[ShapeRange, ...] = (),
        biased: BiasedLabels | None = None,
        last_layer: LastLayerWeights | None = None,
    ) -> None:
        """Wrap an opened backend, which is closed with the subject.

        Args:
            backend: Runs the model.
            name: The file's name, for reports and errors.
            kind: What the file is.
            sha256: Of the file; None where there is none.
            proof: What the graph was found to compute in.
            reported: Whether the report that the export wrote beside it is of this very file;
                None without such a report.
            profiles: Of an engine: the ranges of shapes that it takes.
            biased: Of an ONNX file that gives labels: runs it with a number per class added.
            last_layer: Of a model that gives scores: the weights that its spec describes.
        """
        self.backend, self.name, self.kind, self.sha256 = backend, name, kind, sha256
        self.proof, self.reported, self.profiles = proof, reported, profiles
        self.biased, self._last_layer = biased, last_layer
        self.flips = False
        """Whether answers are the mean over each tile and its mirror image, as in a graph that
        averages so. For models that give logits or scores."""

    @property
    def spec(self) -> ModelSpec:
        """What the model promises."""
        return self.backend.spec

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU computes."""
        return self.kind == "engine" or self.backend.info.device == "gpu"

    def takes(self, shape: Shape) -> bool:
        """Say whether an engine has a profile for a shape; other models take any legal one."""
        return not self.profiles or any(
            all(low <= side <= high for low, side, high in zip(p.min, shape, p.max, strict=True))
            for p in self.profiles
        )

    def describe(self) -> dict[str, Any]:
        """Return what a report says of this side, as plain JSON data."""
        return {
            "name": self.name,
            "kind": self.kind,
            "sha256": self.sha256,
            "head": self.spec.head,
            "precision": self.spec.precision,
            "library": self.backend.details["library"],
            "compute": self.backend.info.precision,
            "matches_its_report": self.reported,
            "source_sha256": self.spec.source.sha256,
            "layers": asdict(self.proof)["layers"] if self.proof else None,
            "kept_fp32": list(self.proof.kept) if self.proof else [],
        }

    def answer(self, image_nhwc: NDArray[np.uint8]) -> Answer:
        """Label pictures of one size.

        Where sides are not multiples of the spec's, a model that gives logits or scores is run on
        the overlapping tiles of head ``scene``, and their mean is taken. Of scores, the labels are
        those of the runtime's kernel, and the logits are computed by numpy.

        Args:
            image_nhwc: uint8 (N, H, W, 3), RGB, of a size that the head can cover.

        Returns:
            Labels and, where the head gives them, logits.
        """
        if self.spec.confidence is not None:
            both_n2hw = self.backend.infer(image_nhwc)
            return Answer(both_n2hw[:, 0].astype(np.int64), None, both_n2hw[:, 1] / 255)
        if not self.spec.can_average:
            return Answer(self.backend.infer(image_nhwc).astype(np.int64), None)
        batch, height, width, _ = image_nhwc.shape
        given, layer = self.spec.input, self._last_layer
        plan = plan_tiles(height, width, multiple=given.multiple)
        rows, columns = plan.tile
        total = np.zeros((batch, self.spec.num_classes, height, width))
        count = np.zeros((height, width))
        tiles = []
        for top, left in plan:
            window = np.s_[top : top + rows, left : left + columns]
            tile = self.backend.infer(normalized(image_nhwc[:, *window], given))
            total[:, :, *window] += self._logits(tile)
            count[window] += 1
            if self.flips:
                mirrored = np.ascontiguousarray(image_nhwc[:, *window][:, :, ::-1])
                again = self.backend.infer(normalized(mirrored, given))
                total[:, :, *window] += self._logits(again)[..., ::-1]
                count[window] += 1
            elif layer is not None:
                tiles.append(tile)
        logits_nchw = total / count
        sure_nhw = 1 / np.exp(logits_nchw - logits_nchw.max(1, keepdims=True)).sum(1)
        if not tiles:
            return Answer(logits_nchw.argmax(1), logits_nchw, sure_nhw)
        upsampling = self.backend.upsampling
        assert upsampling is not None
        scores_ntchw = np.stack(tiles, 1)
        labels = [upsample_argmax(scores, plan, upsampling) for scores in scores_ntchw]
        return Answer(np.stack(labels).astype(np.int64), logits_nchw, sure_nhw)

    def _logits(self, output: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        return output if self._last_layer is None else full_logits(output, self._last_layer)

    def close(self) -> None:
        """Close the backend."""
        self.backend.close()


def open_subject(path: Path, request: BackendRequest | None = None) -> Subject:
    """Open a file to be compared; an ONNX file's precision is proved first.

    Args:
        path: A checkpoint, an ONNX file or an engine.
        request: How an exported model is run; ``backend="auto"`` runs an ONNX file in ONNX
            Runtime. A checkpoint is run by PyTorch on the CPU and takes only ``threads``.

    Returns:
        The opened side.

    Raises:
        ArtifactError: The file is missing, broken, or not what its spec says.
        BackendUnavailableError: The library does not run it here.
        MissingExtraError: The library is not installed.
    """
    request = request or BackendRequest()
    kind = kind_of(path)
    if kind == "checkpoint":
        on_cpu = BackendRequest(threads=request.threads, options={"device": "cpu"})
        opened = open_model(path, on_cpu)
        return Subject(opened, name=path.name, kind=kind, sha256=sha256_of(path))
    if kind == "engine":
        profiles = read_engine_file(path, spec_from=request.spec_from).profiles
        opened = open_model(path, request)
        return Subject(
            opened,
            name=path.name,
            kind=kind,
            sha256=sha256_of(path),
            profiles=profiles,
            last_layer=read_last_layer(path, opened.spec, spec_from=request.spec_from),
        )
    return _open_onnx(path, request)


def _open_onnx(path: Path, request: BackendRequest) -> Subject:
    file = read_onnx_file(path)
    proof = file.prove(file.spec(where=str(path)), where=str(path))
    if request.backend == "auto":
        request = replace(request, backend="onnxruntime")
    opened = open_model(path, request)
    sha256 = sha256_of(path)
    biased = None
    if request.backend == "onnxruntime" and not opened.spec.can_average:
        biased = open_biased(path, opened.spec, threads=opened.info.threads)
    return Subject(
        opened,
        name=path.name,
        kind="onnx",
        sha256=sha256,
        proof=proof,
        reported=_is_reported(path, sha256),
        biased=biased,
        last_layer=read_last_layer(path, opened.spec),
    )
