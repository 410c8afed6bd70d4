"""fcnkit: from labelled pictures to a segmentation model that runs fast wherever it is deployed."""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("fcnkit")

__all__ = ["__version__"]
