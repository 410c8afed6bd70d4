"""``python -m fcnkit.train``: the verb ``train``, in the form that torchrun starts."""

from __future__ import annotations

import sys

from fcnkit.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
