"""The runtime: numpy and C++ around whatever library runs the model.

Its packages, lowest first: ``artifacts`` (what files say), ``pixels`` (compiled kernels),
``backends`` (libraries that run a model), ``predict`` (images to label maps), ``bench``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcnkit.faces import lazy_face

if TYPE_CHECKING:
    from fcnkit.runtime.artifacts.description import describe
    from fcnkit.runtime.artifacts.spec import ModelSpec
    from fcnkit.runtime.backends.base import Backend
    from fcnkit.runtime.backends.opening import open_backend
    from fcnkit.runtime.backends.probe import BackendStatus, list_backends
    from fcnkit.runtime.backends.settings import Compute
    from fcnkit.runtime.pixels import metrics, palette, tiling
    from fcnkit.runtime.pixels.build import build_info
    from fcnkit.runtime.pixels.tile_plan import TilePlan
    from fcnkit.runtime.predict.covering import Cover
    from fcnkit.runtime.predict.folder import predict_files
    from fcnkit.runtime.predict.inputs import Job, find_jobs
    from fcnkit.runtime.predict.manifest import Record
    from fcnkit.runtime.predict.opening import load
    from fcnkit.runtime.predict.outputs import Format
    from fcnkit.runtime.predict.pictures import read_picture
    from fcnkit.runtime.predict.predictor import Predictor
    from fcnkit.runtime.predict.rows import open_rows
    from fcnkit.runtime.predict.segmenter import Segmenter
    from fcnkit.runtime.predict.stream import Labelled

__all__ = [
    "Backend",
    "BackendStatus",
    "Compute",
    "Cover",
    "Format",
    "Job",
    "Labelled",
    "ModelSpec",
    "Predictor",
    "Record",
    "Segmenter",
    "TilePlan",
    "build_info",
    "describe",
    "find_jobs",
    "list_backends",
    "load",
    "metrics",
    "open_backend",
    "open_rows",
    "palette",
    "predict_files",
    "read_picture",
    "tiling",
]

__getattr__, __dir__ = lazy_face(
    __name__,
    {
        "Backend": "fcnkit.runtime.backends.base",
        "BackendStatus": "fcnkit.runtime.backends.probe",
        "Compute": "fcnkit.runtime.backends.settings",
        "Cover": "fcnkit.runtime.predict.covering",
        "Format": "fcnkit.runtime.predict.outputs",
        "Job": "fcnkit.runtime.predict.inputs",
        "Labelled": "fcnkit.runtime.predict.stream",
        "ModelSpec": "fcnkit.runtime.artifacts.spec",
        "Predictor": "fcnkit.runtime.predict.predictor",
        "Record": "fcnkit.runtime.predict.manifest",
        "Segmenter": "fcnkit.runtime.predict.segmenter",
        "TilePlan": "fcnkit.runtime.pixels.tile_plan",
        "build_info": "fcnkit.runtime.pixels.build",
        "describe": "fcnkit.runtime.artifacts.description",
        "find_jobs": "fcnkit.runtime.predict.inputs",
        "list_backends": "fcnkit.runtime.backends.probe",
        "load": "fcnkit.runtime.predict.opening",
        "metrics": "fcnkit.runtime.pixels.metrics",
        "open_backend": "fcnkit.runtime.backends.opening",
        "open_rows": "fcnkit.runtime.predict.rows",
        "palette": "fcnkit.runtime.pixels.palette",
        "predict_files": "fcnkit.runtime.predict.folder",
        "read_picture": "fcnkit.runtime.predict.pictures",
        "tiling": "fcnkit.runtime.pixels.tiling",
    },
)
