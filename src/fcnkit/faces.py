"""Package faces: the public names of a package, each loaded from its module at its first use.

Importing a face costs nothing, so ``import fcnkit.train`` does not import torch (PEP 562).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy_face"]


def lazy_face(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Build ``__getattr__`` and ``__dir__`` for a package that loads its names when they are used.

    Args:
        package: The package's ``__name__``.
        homes: The module that defines each public name; a module that is public itself is its
            own home.

    Returns:
        The two functions, to be assigned at the top level of the package.
    """

    def load_name(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(home)
        value = module if home.endswith(f".{name}") else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return load_name, names
