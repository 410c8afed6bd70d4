"""Folder prediction as a plain callable, for engines that hand out work themselves.

Spark's ``mapPartitions``, Ray Data's ``map_batches`` and the like call a function with a share of
the paths, in their own process. ``Predictor`` is such a function: it can be pickled, opens the
model where it runs, and returns plain dictionaries. There is no manifest, and the folder is not
locked: the engine tracks which shares are done. A small file per result says which image it was
made from, so that no other image replaces it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.artifacts.spec import Tta
from fcnkit.runtime.backends.settings import Compute
from fcnkit.runtime.files import sha256_of
from fcnkit.runtime.predict.claims import Claims
from fcnkit.runtime.predict.covering import Cover
from fcnkit.runtime.predict.folder import run_into
from fcnkit.runtime.predict.identity import real_path, relative_path
from fcnkit.runtime.predict.inputs import Job
from fcnkit.runtime.predict.outputs import SUFFIX_OF, Format
from fcnkit.runtime.predict.overlays import OverlayStyle
from fcnkit.runtime.predict.parts import PARTIAL
from fcnkit.runtime.predict.picture_file import MAX_PIXELS
from fcnkit.runtime.predict.region import Region
from fcnkit.runtime.predict.results import ResultRequest
from fcnkit.runtime.predict.staging import Staging
from fcnkit.runtime.predict.urls import is_url

__all__ = ["Predictor"]


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """Labels the pictures of a share of paths; see ``fcnkit.runtime.load`` for the options.

    Example:
        >>> predictor = Predictor(model="m.onnx", root="/photos", out="/labels")  # doctest: +SKIP
        >>> rdd.mapPartitions(predictor)  # doctest: +SKIP
    """

    model: str
    """An exported model that every process can read."""
    root: str
    """The results mirror the tree below this folder."""
    out: str
    """The output folder; one for all processes."""
    format: Format = "labels"
    overlay: OverlayStyle | None = None
    backend: str = "auto"
    threads: int | None = None
    compute: Compute = "auto"
    options: Mapping[str, str] | None = None
    spec: str | None = None
    cover: Cover | None = None
    tile: tuple[int, int] | None = None
    overlap: int | None = None
    tta: Tta | None = None
    wanted: ResultRequest | None = None
    region: Region | None = None
    batch: int | None = None
    max_pixels: int = MAX_PIXELS

    def __call__(self, paths: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Label pictures.

        Args:
            paths: Files below ``root``.

        Yields:
            One dictionary per picture, as a line of the manifest.

        Raises:
            ArtifactError: The model cannot be read.
            DataError: A result would replace one of another picture.
            ValueError: A path lies outside ``root``, two of this share would have the same
                result, ``out`` is ``root``, or an option does not fit.
            OSError: A result cannot be written.
        """
        from fcnkit.runtime.predict.opening import load

        if self.format not in SUFFIX_OF:
            rule = f"format must be one of {', '.join(SUFFIX_OF)}"
            raise BadValueError(message("Predictor", rule, self.format, "leave it out for labels"))
        _check_here(self.root)
        _check_here(self.out)
        out = Path(self.out)
        out.mkdir(parents=True, exist_ok=True)
        opened = load(
            self.model,
            backend=self.backend,
            threads=self.threads,
            compute=self.compute,
            options=self.options,
            spec=self.spec,
            cover=self.cover,
            tile=self.tile,
            overlap=self.overlap,
            tta=self.tta,
        )
        # Its own name: other processes write into the same folder.
        name = f"{PARTIAL}-{os.getpid()}-{secrets.token_hex(4)}"
        seen: dict[Path, str] = {}
        with (
            opened as segmenter,
            closing(Claims(out)) as claims,
            Staging(out, name=name) as staging,
        ):
            jobs = (self._job(path, seen, claims) for path in paths)
            for record in run_into(
                segmenter,
                jobs,
                staging,
                claims,
                model_sha256=sha256_of(Path(self.model)),
                format=self.format,
                wanted=self.wanted,
                overlay=self.overlay,
                region=self.region,
                batch=self.batch,
                max_pixels=self.max_pixels,
            ):
                yield asdict(record)

    def _job(self, path: str, seen: dict[Path, str], claims: Claims) -> Job:
        """Name the result of a picture; ``seen`` holds the names that this share has given."""
        _check_here(path)
        source, root = Path(path), Path(self.root)
        relative = relative_path(source, root)
        if relative is None:
            rule = f"every picture must lie below root {self.root}"
            raise BadValueError(message("Predictor", rule, path, "pass a root that holds them all"))
        output, real = relative.with_suffix(SUFFIX_OF[self.format]), real_path(source)
        same = os.path.realpath(self.out) == os.path.realpath(root)
        if same or ".." in source.parts or seen.setdefault(output, real) != real:
            rule = "a result must lie in a folder apart from root, under its own name"
            raise BadValueError(
                message("Predictor", rule, path, "choose another out or rename one")
            )
        claims.check(source, output)
        return Job(source, output)


def _check_here(place: str) -> None:
    if is_url(place):
        rule, remedy = "takes files of this machine", "mount the store, or run fcnkit predict"
        raise BadValueError(message("Predictor", rule, place, remedy))
