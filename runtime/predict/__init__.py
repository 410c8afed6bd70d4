"""Images to label maps: one image, a stream of them, or folders of files."""

from __future__ import annotations
