"""``fcnkit doctor``: what works on this machine, and what would make the rest work."""

from __future__ import annotations

import json
from typing import Any

from fcnkit.cli.options import Json
from fcnkit.cli.say import say

__all__ = ["doctor"]


def doctor(as_json: Json = False) -> None:
    """Show which backends run on this machine, and how to get the others."""
    found = _examine()
    if as_json:
        say(json.dumps(found))
        return
    for name, value in found["versions"].items():
        say(f"{name:<8} {value}")
    for name, value in found["build"].items():
        text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
        say(f"{name:<8} {text}")
    for name, library in found["codecs"].items():
        say(f"{name:<8} {library}")
    width = max(len(status["name"]) for status in found["backends"])
    for status in found["backends"]:
        opens = "opens" if status["opens"] else "does not open"
        say(f"{status['name']:<{width}}  {opens}: {status['detail']}")
        if status["remedy"]:
            say(f"{'':<{width}}  -> {status['remedy']}")


def _examine() -> dict[str, Any]:
    import platform
    from dataclasses import asdict
    from importlib.metadata import version

    from fcnkit.runtime import build_info, list_backends
    from fcnkit.runtime.predict.codecs import describe_codecs

    names = ("fcnkit", "numpy", "pillow")
    return {
        "versions": {
            "python": f"{platform.python_version()} on {platform.platform()}",
            **{name: version(name) for name in names},
        },
        "build": build_info(),
        "codecs": describe_codecs(),
        "backends": [asdict(status) for status in list_backends()],
    }
