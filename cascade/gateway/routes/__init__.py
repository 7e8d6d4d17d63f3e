"""The gateway's own routes: health, metrics, the list of models, route, gate and feedback."""
