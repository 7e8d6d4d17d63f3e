"""The providers: the environment variables of their keys, and their defaults."""

KEY_ENV = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
"""The environment variable that holds a provider's key, by provider; these are the providers that have list prices."""
DEFAULT_MAX_TOKENS = {"anthropic": 1024}
"""The most output tokens that a request asks for where the provider requires a number and the policy file gives none."""
