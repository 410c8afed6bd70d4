"""fcnkit: from labeled images to a segmentation model that runs fast wherever it is deployed."""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import TYPE_CHECKING

from fcnkit.errors import (
    ArtifactError,
    BackendUnavailableError,
    BadTypeError,
    BadValueError,
    DataError,
    FcnkitError,
    MissingExtraError,
    VerifyError,
)
from fcnkit.faces import lazy_face

if TYPE_CHECKING:
    from fcnkit import export, runtime, train
    from fcnkit.runtime.artifacts.spec import ModelSpec
    from fcnkit.runtime.predict.opening import load
    from fcnkit.runtime.predict.segmenter import Segmenter
else:
    __getattr__, __dir__ = lazy_face(
        __name__,
        {
            "fcnkit.export": "export",
            "fcnkit.runtime": "runtime",
            "fcnkit.runtime.artifacts.spec": "ModelSpec",
            "fcnkit.runtime.predict.opening": "load",
            "fcnkit.runtime.predict.segmenter": "Segmenter",
            "fcnkit.train": "train",
        },
    )

__version__ = version("fcnkit")

__all__ = [
    "ArtifactError",
    "BackendUnavailableError",
    "BadTypeError",
    "BadValueError",
    "DataError",
    "FcnkitError",
    "MissingExtraError",
    "ModelSpec",
    "Segmenter",
    "VerifyError",
    "__version__",
    "export",
    "load",
    "runtime",
    "train",
]


# A library stays silent until its user configures logging.
logging.getLogger("fcnkit").addHandler(logging.NullHandler())
