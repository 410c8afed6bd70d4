"""Package faces: the public names of a package, each loaded from its module at its first use.

Importing a face costs nothing, so ``import fcnkit.train`` does not import torch (PEP 562).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from fcnkit.errors import missing_extra

__all__ = ["lazy_face"]


def lazy_face(
    package: str, homes: Mapping[str, str], *, extra: str = ""
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Build ``__getattr__`` and ``__dir__`` for a package that loads its names when they are used.

    Args:
        package: The package's ``__name__``.
        homes: Each module and the public names it defines, with spaces between them. A module that
            is public itself is its own home: ``{"fcnkit.train.data": "data"}``.
        extra: The extra that installs what these modules import; empty where nothing is optional.

    Returns:
        The two functions, to be assigned at the top level of the package. Using a name raises
        AttributeError where the package has no such name, and MissingExtraError where the extra
        is not installed.
    """
    home_of = {name: home for home, names in homes.items() for name in names.split()}

    def load_name(name: str) -> Any:
        home = home_of.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            module = import_module(home)
        except ModuleNotFoundError as error:
            absent = str(error.name)
            if not extra or absent.split(".", maxsplit=1)[0] == "fcnkit":
                raise
            raise missing_extra(f"{package}.{name}", absent, extra) from error
        value = module if home.endswith(f".{name}") else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *home_of})

    return load_name, names
