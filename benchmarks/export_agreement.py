"""How well a trained checkpoint's exports agree with PyTorch on real pictures, by precision.

    python -m benchmarks.export_agreement CHECKPOINT DATA [--head labels] [--json FILE]

DATA is in VOC layout; int8 is calibrated on ``train``, and all are measured on ``val``. The limits
are those of the project: fp32 gives at least 99.99 % of all labels as PyTorch does, fp16 99.8 %,
and int8 loses at most 0.01 of the mean IoU. The exit code is 1 where one of them is missed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fcnkit.export.subject import open_subject
from fcnkit.export.to_onnx import export_onnx
from fcnkit.export.verification import verify
from fcnkit.export.verify_data import open_comparison_data

AGREEMENT = {"fp32": 0.9999, "fp16": 0.998, "int8": 0.0}
MIOU_DROP = 0.01


def measure(checkpoint: Path, data: Path, head: str, precision: str) -> dict[str, Any]:
    """Export, and compare on the split."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.onnx"
        exported = export_onnx(
            checkpoint,
            out,
            head=head,  # type: ignore[arg-type]
            precision=precision,  # type: ignore[arg-type]
            calibration=data if precision == "int8" else None,
            # Measured here, and judged here.
            max_miou_drop=1.0 if precision == "int8" else None,
            max_pixels=96 * 96,
        )
        on_data = exported.verify.data
        if on_data is None:
            with open_subject(checkpoint) as a, open_subject(out) as b:
                on_data = verify(a, b, data=open_comparison_data(data), max_pixels=96 * 96).data
    assert on_data is not None
    return {
        "precision": precision,
        "agreement": on_data.difference.label_agreement,
        "miou_drop": on_data.miou_drop,
        "speedup": exported.speedup,
        **asdict(on_data),
    }


def main() -> None:
    """Print a row per precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--head", default="labels")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows, missed = [], False
    for precision, least in AGREEMENT.items():
        row = measure(options.checkpoint, options.data, options.head, precision)
        rows.append(row)
        good = row["agreement"] >= least and row["miou_drop"] <= MIOU_DROP
        missed |= not good
        speed = f", {row['speedup']:.2f}x as fast as fp32" if row["speedup"] else ""
        print(
            f"{precision}: {100 * row['agreement']:.4f} % of all labels as in PyTorch, mean IoU "
            f"{row['mean_iou_a']:.4f} and {row['mean_iou_b']:.4f}, {row['pictures']} pictures"
            f"{speed}{'' if good else '  MISSED'}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
