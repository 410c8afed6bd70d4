"""Backends: the libraries that run an exported model, behind one small protocol.

A backend's library is imported when that backend is opened, never before, and nothing falls back:
an asked-for backend is what runs, or a BackendUnavailableError with the remedy.
"""

from __future__ import annotations
