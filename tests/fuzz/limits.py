"""What a case may take, and where the corpus lies; imports nothing that is to be instrumented."""

from __future__ import annotations

from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"

PATIENCE_S = 10
"""A case that takes longer hangs."""

MEMORY = 2 << 30
"""Bytes of memory that a case may take."""
