"""API keys: who may call, at what rate and with which budgets."""
