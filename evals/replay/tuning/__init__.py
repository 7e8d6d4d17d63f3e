"""Which cascade, with which thresholds, in which order they are tested: learned on the fit rows alone."""
