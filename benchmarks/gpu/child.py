"""The process of one stage: ``python -m benchmarks.gpu.child MODULE:FUNCTION SETTINGS CHANNEL``."""

from __future__ import annotations

import importlib
import json
import os
import sys

from benchmarks.gpu.context import Context, Settings
from benchmarks.gpu.processes import die_with_parent


def main() -> None:
    target, settings, channel = sys.argv[1:]
    die_with_parent()
    os.set_inheritable(int(channel), False)  # what the stage starts has nothing to say there
    module, function = target.split(":")
    stage = getattr(importlib.import_module(module), function)
    stage(Context(Settings(**json.loads(settings)), int(channel)))


if __name__ == "__main__":
    main()
