"""The one sentence that says which extra to install where an optional package is missing.

with needed_by("evals.replay"):
    import numpy
"""

from collections.abc import Iterator
from contextlib import contextmanager

EXTRAS = {
    "numpy": "evals",
    "pyarrow": "parquet",
    "backports": "imports",
    "psycopg": "postgres",
    "opentelemetry": "otel",
    "prometheus_client": "metrics",
    "starlette": "gateway",
    "uvicorn": "gateway",
    "math_verify": "maths",
    "xllamacpp": "demo",
}
"""The extra that installs each optional package without which something cannot work; aiohttp, uvloop and httptools only
make things faster, and their absence is no error."""

_PROJECTS = {"math_verify": "math-verify", "prometheus_client": "prometheus-client", "backports": "backports.zstd"}


class MissingExtraError(ModuleNotFoundError):
    """An optional package is not installed; the message names it and the command that installs it."""


@contextmanager
def needed_by(feature: str, extra: str | None = None) -> Iterator[None]:
    """Names what is missing, and what installs it, where the block cannot import an optional package.

    Args:
        feature: What needs the package, as the subject of a sentence.
        extra: The extra to install, where it is not the package's own.

    Raises:
        MissingExtraError: An optional package is not installed. Another missing module is raised as it is.
    """
    try:
        yield
    except MissingExtraError:
        raise
    except ModuleNotFoundError as error:
        message = missing(error, feature, extra)
        if message is None:
            raise
        raise MissingExtraError(message, name=error.name) from None


def missing(error: ModuleNotFoundError, feature: str, extra: str | None = None) -> str | None:
    """The sentence for an optional package that could not be imported; None where the module is not one of them."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    name = _PROJECTS.get(package, package)
    return f"{feature} needs {name}: pip install 'cascade-gate[{extra or EXTRAS[package]}]'"
