"""Adopts networks from elsewhere: ONNX files, state dicts and factories of modules.

``adopt`` reduces each of them to one ONNX graph, puts fcnkit's heads around it, and keeps the
result only where it agrees with the network as it was given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcnkit.faces import lazy_face

if TYPE_CHECKING:
    from fcnkit.export.adopt.adopting import AdoptReport, adopt
    from fcnkit.export.adopt.claims import Claims, read_claims
else:
    __getattr__, __dir__ = lazy_face(
        __name__,
        {
            "fcnkit.export.adopt.adopting": "AdoptReport adopt",
            "fcnkit.export.adopt.claims": "Claims read_claims",
        },
        extra="export",
    )

__all__ = ["AdoptReport", "Claims", "adopt", "read_claims"]
