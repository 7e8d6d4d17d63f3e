"""Reading the journal: list, show, verify and export runs."""
