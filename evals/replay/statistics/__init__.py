"""Statistics without a model or a policy: p-values, tests in sequence, quality of probabilities, regressions."""
