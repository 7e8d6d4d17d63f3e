"""The rows of a recording: which of them a replay uses, how they are split, which are a sample of the traffic."""
