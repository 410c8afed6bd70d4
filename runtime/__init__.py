"""The runtime: numpy and C++ around whatever library runs the model.

Its packages, lowest first: ``artifacts`` (what files say), ``pixels`` (compiled kernels),
``backends`` (libraries that run a model), ``predict`` (images to label maps), ``bench``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcnkit.faces import lazy_face

if TYPE_CHECKING:
    from fcnkit.runtime import bench
    from fcnkit.runtime.artifacts.description import describe
    from fcnkit.runtime.artifacts.engine_file import EngineFile, read_engine_file
    from fcnkit.runtime.artifacts.onnx_file import OnnxFile, read_onnx_file
    from fcnkit.runtime.artifacts.spec import (
        Head,
        InputSpec,
        LastLayer,
        ModelSpec,
        OutputSpec,
        Precision,
        Shape,
        ShapeRange,
        SourceSpec,
        Tta,
    )
    from fcnkit.runtime.backends.base import Backend, BackendInfo
    from fcnkit.runtime.backends.opening import open_backend
    from fcnkit.runtime.backends.probe import BackendStatus, list_backends
    from fcnkit.runtime.backends.request import BackendRequest
    from fcnkit.runtime.backends.settings import Compute
    from fcnkit.runtime.files import sha256_of
    from fcnkit.runtime.pixels import metrics, palette, tiling
    from fcnkit.runtime.pixels.build import build_info
    from fcnkit.runtime.pixels.metrics import Scores
    from fcnkit.runtime.pixels.prediction import Prediction
    from fcnkit.runtime.pixels.tile_plan import TilePlan, plan_padded, plan_tiles
    from fcnkit.runtime.predict.camera import predict_camera
    from fcnkit.runtime.predict.covering import (
        Cover,
        Covering,
        CoverRequest,
        choose_covering,
    )
    from fcnkit.runtime.predict.folder import predict_files
    from fcnkit.runtime.predict.frames import Color
    from fcnkit.runtime.predict.inputs import Job, Listing, find_jobs
    from fcnkit.runtime.predict.job_stream import Listed
    from fcnkit.runtime.predict.live import LiveResult
    from fcnkit.runtime.predict.manifest import Record
    from fcnkit.runtime.predict.opening import load
    from fcnkit.runtime.predict.outputs import Format
    from fcnkit.runtime.predict.overlays import OverlayStyle
    from fcnkit.runtime.predict.pictures import read_picture
    from fcnkit.runtime.predict.predictor import Predictor
    from fcnkit.runtime.predict.ray import RayWorkers
    from fcnkit.runtime.predict.region import Region
    from fcnkit.runtime.predict.results import ResultRequest
    from fcnkit.runtime.predict.rows import open_rows
    from fcnkit.runtime.predict.segmenter import Segmenter
    from fcnkit.runtime.predict.stream import Labelled
    from fcnkit.runtime.predict.video_records import FrameRecord, VideoRecord
    from fcnkit.runtime.predict.window import Window
    from fcnkit.runtime.predict.workers import Workers
else:
    __getattr__, __dir__ = lazy_face(
        __name__,
        {
            "fcnkit.runtime.artifacts.description": "describe",
            "fcnkit.runtime.artifacts.engine_file": "EngineFile read_engine_file",
            "fcnkit.runtime.artifacts.onnx_file": "OnnxFile read_onnx_file",
            "fcnkit.runtime.artifacts.spec": (
                "Head InputSpec LastLayer ModelSpec OutputSpec Precision Shape ShapeRange "
                "SourceSpec Tta"
            ),
            "fcnkit.runtime.backends.base": "Backend BackendInfo",
            "fcnkit.runtime.backends.opening": "open_backend",
            "fcnkit.runtime.backends.probe": "BackendStatus list_backends",
            "fcnkit.runtime.backends.request": "BackendRequest",
            "fcnkit.runtime.backends.settings": "Compute",
            "fcnkit.runtime.bench": "bench",
            "fcnkit.runtime.files": "sha256_of",
            "fcnkit.runtime.pixels.build": "build_info",
            "fcnkit.runtime.pixels.metrics": "Scores metrics",
            "fcnkit.runtime.pixels.palette": "palette",
            "fcnkit.runtime.pixels.prediction": "Prediction",
            "fcnkit.runtime.pixels.tile_plan": "TilePlan plan_padded plan_tiles",
            "fcnkit.runtime.pixels.tiling": "tiling",
            "fcnkit.runtime.predict.camera": "predict_camera",
            "fcnkit.runtime.predict.covering": "Cover CoverRequest Covering choose_covering",
            "fcnkit.runtime.predict.folder": "predict_files",
            "fcnkit.runtime.predict.frames": "Color",
            "fcnkit.runtime.predict.inputs": "Job Listing find_jobs",
            "fcnkit.runtime.predict.job_stream": "Listed",
            "fcnkit.runtime.predict.live": "LiveResult",
            "fcnkit.runtime.predict.overlays": "OverlayStyle",
            "fcnkit.runtime.predict.manifest": "Record",
            "fcnkit.runtime.predict.opening": "load",
            "fcnkit.runtime.predict.outputs": "Format",
            "fcnkit.runtime.predict.pictures": "read_picture",
            "fcnkit.runtime.predict.predictor": "Predictor",
            "fcnkit.runtime.predict.ray": "RayWorkers",
            "fcnkit.runtime.predict.region": "Region",
            "fcnkit.runtime.predict.results": "ResultRequest",
            "fcnkit.runtime.predict.rows": "open_rows",
            "fcnkit.runtime.predict.segmenter": "Segmenter",
            "fcnkit.runtime.predict.stream": "Labelled",
            "fcnkit.runtime.predict.video_records": "FrameRecord VideoRecord",
            "fcnkit.runtime.predict.window": "Window",
            "fcnkit.runtime.predict.workers": "Workers",
        },
    )

__all__ = [
    "Backend",
    "BackendInfo",
    "BackendRequest",
    "BackendStatus",
    "Color",
    "Compute",
    "Cover",
    "CoverRequest",
    "Covering",
    "EngineFile",
    "Format",
    "FrameRecord",
    "Head",
    "InputSpec",
    "Job",
    "Labelled",
    "LastLayer",
    "Listed",
    "Listing",
    "LiveResult",
    "ModelSpec",
    "OnnxFile",
    "OutputSpec",
    "OverlayStyle",
    "Precision",
    "Prediction",
    "Predictor",
    "RayWorkers",
    "Record",
    "Region",
    "ResultRequest",
    "Scores",
    "Segmenter",
    "Shape",
    "ShapeRange",
    "SourceSpec",
    "TilePlan",
    "Tta",
    "VideoRecord",
    "Window",
    "Workers",
    "bench",
    "build_info",
    "choose_covering",
    "describe",
    "find_jobs",
    "list_backends",
    "load",
    "metrics",
    "open_backend",
    "open_rows",
    "palette",
    "plan_padded",
    "plan_tiles",
    "predict_camera",
    "predict_files",
    "read_engine_file",
    "read_onnx_file",
    "read_picture",
    "sha256_of",
    "tiling",
]
