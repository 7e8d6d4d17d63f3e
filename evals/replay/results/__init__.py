"""The results of a replay: the table, the figures of the report, the verdict, each task."""
