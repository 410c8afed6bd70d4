"""Data sets in other layouts: one module per format, and what turns them into VOC layout."""
