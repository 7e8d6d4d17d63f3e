"""One replay from end to end: rows, scores, the choice of a cascade, its run through the engine, and what is reported."""

from .config import ReplayConfig
from .data import as_file, page
from .run import ReplayResult, replay

__all__ = ["ReplayConfig", "ReplayResult", "as_file", "page", "replay"]
