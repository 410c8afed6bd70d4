"""How long a model takes to open and to answer once: ``python -m ... MODEL NxHxW``."""

from __future__ import annotations

import json
import sys
import time

from fcnkit.runtime import open_backend
from fcnkit.runtime.artifacts.spec import parse_shape
from fcnkit.runtime.bench.stages import example_batch


def main() -> None:
    start = time.perf_counter()
    with open_backend(sys.argv[1]) as backend:
        opened = time.perf_counter()
        backend.infer(example_batch(backend.spec, parse_shape(sys.argv[2], "shape")))
        answered = time.perf_counter()
    print(json.dumps({"open_seconds": opened - start, "first_call_seconds": answered - opened}))


if __name__ == "__main__":
    main()
