"""What a run asks about its prompt before it asks a tier."""
