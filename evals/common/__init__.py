"""What recording, grading and replay share."""
