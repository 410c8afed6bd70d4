"""The export: checkpoints to verified ONNX files, engines and Triton repositories.

``to_onnx`` and ``engine`` write files; ``verification`` compares any two models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcnkit.faces import lazy_face

if TYPE_CHECKING:
    from fcnkit.export.calibration import Calibration, open_calibration
    from fcnkit.export.engine import EngineReport, build_engine
    from fcnkit.export.engine_profiles import ProfileRequest, parse_profile
    from fcnkit.export.engine_verify import EngineCheck
    from fcnkit.export.speed import measure_speedup
    from fcnkit.export.subject import Subject, open_subject
    from fcnkit.export.to_onnx import ExportReport, export_onnx
    from fcnkit.export.triton import TritonReport, write_triton_repository
    from fcnkit.export.verification import VerifyReport, require, verify
    from fcnkit.export.verify_data import ComparisonData, DataReport, open_comparison_data
    from fcnkit.export.web import WebReport, write_web_page
    from fcnkit.runtime.artifacts.engine_file import BuilderOptions
    from fcnkit.runtime.artifacts.onnx_precision import PrecisionProof
    from fcnkit.runtime.artifacts.precisions import PRECISIONS, PrecisionFacts, Tolerance
else:
    __getattr__, __dir__ = lazy_face(
        __name__,
        {
            "fcnkit.export.calibration": "Calibration open_calibration",
            "fcnkit.export.engine": "EngineReport build_engine",
            "fcnkit.export.engine_profiles": "ProfileRequest parse_profile",
            "fcnkit.export.engine_verify": "EngineCheck",
            "fcnkit.runtime.artifacts.onnx_precision": "PrecisionProof",
            "fcnkit.export.speed": "measure_speedup",
            "fcnkit.export.subject": "Subject open_subject",
            "fcnkit.export.to_onnx": "ExportReport export_onnx",
            "fcnkit.export.triton": "TritonReport write_triton_repository",
            "fcnkit.export.verification": "VerifyReport require verify",
            "fcnkit.export.verify_data": "DataReport ComparisonData open_comparison_data",
            "fcnkit.export.web": "WebReport write_web_page",
            "fcnkit.runtime.artifacts.engine_file": "BuilderOptions",
            "fcnkit.runtime.artifacts.precisions": "PRECISIONS PrecisionFacts Tolerance",
        },
        extra="export",
    )

__all__ = [
    "PRECISIONS",
    "BuilderOptions",
    "Calibration",
    "ComparisonData",
    "DataReport",
    "EngineCheck",
    "EngineReport",
    "ExportReport",
    "PrecisionFacts",
    "PrecisionProof",
    "ProfileRequest",
    "Subject",
    "Tolerance",
    "TritonReport",
    "VerifyReport",
    "WebReport",
    "build_engine",
    "export_onnx",
    "measure_speedup",
    "open_calibration",
    "open_comparison_data",
    "open_subject",
    "parse_profile",
    "require",
    "verify",
    "write_triton_repository",
    "write_web_page",
]
