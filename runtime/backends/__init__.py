"""The libraries that run a model, behind one small protocol.

A library is imported when its backend is opened, never before. Nothing falls back: the named
backend runs, or a BackendUnavailableError says what is missing.
"""

from __future__ import annotations
