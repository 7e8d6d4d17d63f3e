"""Which rows of a journal's export are a sample of its traffic."""
