"""Protection against failing providers: retries, circuit breakers, limits, hedged requests, deadlines."""
