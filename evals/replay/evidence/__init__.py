"""Evidence besides a tier's own judges: the answers of other models of the recording."""
