"""Bytecode of a fresh checkout: each worker compiles a share of the files, rather than every worker all of them."""

import compileall
import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def write_share(config: pytest.Config) -> None:
    """Compiles this worker's share of what the workers are about to import; what is compiled already is left alone."""
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    if count == 1 or sys.dont_write_bytecode:
        return
    place = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    files = sorted(file for top in ("cascade", "judges", "evals", "tests") for file in (ROOT / top).rglob("*.py"))
    for file in files[place % count :: count]:
        # Private functions of pytest: where they have changed, each worker rewrites every assertion itself, as ever.
        with suppress(ImportError, AttributeError, TypeError, KeyError):
            if file.name == "conftest.py" or file.name.startswith("test_"):
                _rewrite(file, config)
            else:
                compileall.compile_file(file, quiet=2)


def _rewrite(file: Path, config: pytest.Config) -> None:
    """Writes the bytecode of a module whose assertions pytest rewrites."""
    from _pytest.assertion import rewrite

    folder = rewrite.get_cache_dir(file)
    target = folder / f"{file.stem}{rewrite.PYC_TAIL}"
    if rewrite._read_pyc(file, target) is None and rewrite.try_makedirs(folder):
        stat, code = rewrite._rewrite_test(file, config)
        rewrite._write_pyc(config.stash[rewrite.assertstate_key], code, stat, target)
