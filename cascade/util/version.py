"""The version of the distribution, which pyproject.toml states too."""

VERSION = "0.1.0"
