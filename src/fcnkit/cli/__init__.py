"""The command line: one module per verb, each importing what it needs when it runs."""

from __future__ import annotations
