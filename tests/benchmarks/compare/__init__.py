"""Other people's routers and cascades beside ours, on the same rows and under the same promise: ``make compare``."""
