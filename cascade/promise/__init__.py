"""Whether a promise about the mean loss still holds: tests and intervals that stay valid however often one looks."""
