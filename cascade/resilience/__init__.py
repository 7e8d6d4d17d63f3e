"""What keeps a run going where providers fail: retries, circuit breakers, limits, hedged requests."""
