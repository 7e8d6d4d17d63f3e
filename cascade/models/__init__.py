"""The models that can answer: real providers, a recording, a script."""
