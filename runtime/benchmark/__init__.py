"""Measuring how fast a model runs here, in a way that a reader can believe.

``latency``: one case, cold and warm, stage by stage. ``throughput`` and ``load``: many pictures.
``report``, ``plots`` and ``page``: what is written. ``compare``: two reports against each other.
"""
