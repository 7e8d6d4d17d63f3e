"""Where the work of a command is done: in this process, which is the default, or by the workers of a Ray cluster."""

from .choice import HELP, add_argument, open_engine
from .protocol import Engine, EngineError, Shard

__all__ = ["HELP", "Engine", "EngineError", "Shard", "add_argument", "open_engine"]
