"""The one sentence that says which extra to install where an optional package is missing.

with needed_by("evals.replay"):
    import numpy
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

EXTRAS = {
    "numpy": "evals",
    "pyarrow": "parquet",
    "duckdb": "audit",
    "backports": "imports",
    "psycopg": "postgres",
    "redis": "redis",
    "opentelemetry": "otel",
    "prometheus_client": "metrics",
    "starlette": "gateway",
    "uvicorn": "gateway",
    "httptools": "gateway",
    "math_verify": "maths",
    "xllamacpp": "demo",
    "ray": "ray",
}
"""The extra that installs each optional package without which something cannot work; aiohttp and uvloop only
make things faster, and their absence is not an error."""

_PROJECTS = {
    "backports": "backports.zstd",
    "math_verify": "math-verify",
    "opentelemetry": "opentelemetry-api",
    "prometheus_client": "prometheus-client",
}


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
        SystemExit: The same, while ``python -m`` looks for the module to run: one line, status 2.
    """
    try:
        yield
    except MissingExtraError:
        raise
    except ModuleNotFoundError as error:
        message = missing(error, feature, extra)
        if message is None:
            raise
        if sys.argv[:1] == ["-m"]:  # `python -m` imports the package of a command before any code of ours can catch this
            print(f"cascade: {message}", file=sys.stderr)
            raise SystemExit(2) from None
        raise MissingExtraError(message, name=error.name) from None


def require(package: str) -> None:
    """Raises ModuleNotFoundError where a package is not installed; does not import it, which may take long."""
    if find_spec(package) is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)


def missing(error: ImportError, feature: str, extra: str | None = None) -> str | None:
    """The sentence for an optional package that could not be imported; None where the module is not one of them."""
    package = (error.name or "").partition(".")[0]
    return sentence(feature, package, extra) if package in EXTRAS else None


def sentence(feature: str, package: str, extra: str | None = None) -> str:
    """The sentence that names the missing package and the command that installs it; ``package`` is one of EXTRAS."""
    return f"{feature} needs {_PROJECTS.get(package, package)}: pip install 'cascade-gate[{extra or EXTRAS[package]}]'"
