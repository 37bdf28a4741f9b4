"""Runs beside each other: which go together, how they differ, and a page that shows it."""

from . import compare, pairing

__all__ = ["compare", "pairing"]
