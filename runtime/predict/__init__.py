"""Images to label maps: one image, a stream of them, or folders of files.

``segmenter`` is the start for one image, ``stream`` for many, ``folder`` for files and manifests.
"""

from __future__ import annotations
