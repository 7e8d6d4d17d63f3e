"""Recordings: what every model answered to every prompt, so that any ladder of its models can be replayed without asking."""

from .check import RecordingError
from .format import SPLITS, Example, models_of, read, where_stands, write, write_encoded

__all__ = ["SPLITS", "Example", "RecordingError", "models_of", "read", "where_stands", "write", "write_encoded"]
