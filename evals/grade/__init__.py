"""Graders: answer and reference -> quality in [0, 1]. Each has a name and a version, stored with every grade."""

from .protocol import Grader, GraderError, GradingCase
from .registry import grader, names

__all__ = ["Grader", "GraderError", "GradingCase", "grader", "names"]
