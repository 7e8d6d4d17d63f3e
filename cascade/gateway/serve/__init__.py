"""The HTTP server: protocol, limits, health, hot reload."""
