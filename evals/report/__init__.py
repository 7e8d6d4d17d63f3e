"""The drawings and sections of the report page; ``evals.report`` puts them together."""
