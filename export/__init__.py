"""The export stage: checkpoints to verified ONNX files, engines and Triton repositories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcnkit.faces import lazy_face

if TYPE_CHECKING:
    from fcnkit.export.calibration import Calibration, open_calibration
    from fcnkit.export.engine import EngineReport, build_engine
    from fcnkit.export.engine_profiles import ProfileRequest, parse_profile
    from fcnkit.export.to_onnx import ExportReport, export_onnx
    from fcnkit.export.triton import TritonReport, write_triton_repository
    from fcnkit.export.verification import VerifyReport, verify
    from fcnkit.runtime.artifacts.engine_file import BuilderOptions

__all__ = [
    "BuilderOptions",
    "Calibration",
    "EngineReport",
    "ExportReport",
    "ProfileRequest",
    "TritonReport",
    "VerifyReport",
    "build_engine",
    "export_onnx",
    "open_calibration",
    "parse_profile",
    "verify",
    "write_triton_repository",
]

__getattr__, __dir__ = lazy_face(
    __name__,
    {
        "BuilderOptions": "fcnkit.runtime.artifacts.engine_file",
        "Calibration": "fcnkit.export.calibration",
        "EngineReport": "fcnkit.export.engine",
        "ExportReport": "fcnkit.export.to_onnx",
        "ProfileRequest": "fcnkit.export.engine_profiles",
        "TritonReport": "fcnkit.export.triton",
        "VerifyReport": "fcnkit.export.verification",
        "build_engine": "fcnkit.export.engine",
        "export_onnx": "fcnkit.export.to_onnx",
        "open_calibration": "fcnkit.export.calibration",
        "parse_profile": "fcnkit.export.engine_profiles",
        "verify": "fcnkit.export.verification",
        "write_triton_repository": "fcnkit.export.triton",
    },
)
