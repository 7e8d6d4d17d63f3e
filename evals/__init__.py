"""Measures cascades on recorded answers: recordings, grading, replay. Stands above ``cascade`` and ``judges``."""
