"""The wheel holds what the commands need, and nothing of the tests."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from this checkout."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.parametrize(
    "name",
    [
        "cascade/data/policies.yaml",
        "cascade/data/policies.schema.json",
        "cascade/py.typed",
        "cascade/gateway/dashboard/page/index.html",
        "cascade/gateway/dashboard/page/uplot/uPlot.iife.min.js",
        "cascade/gateway/dashboard/page/uplot/LICENSE.txt",
        "judges/py.typed",
        "evals/py.typed",
        "cascade/data/starter.jsonl.gz",
        "evals/demo/starter/README.md",
    ],
)
def test_the_wheel_holds(wheel: Path, name: str) -> None:
    """Data files travel with the code, byte for byte."""
    source = ROOT / ("policies.yaml" if name == "cascade/data/policies.yaml" else name)
    with ZipFile(wheel) as archive:
        assert archive.read(name) == source.read_bytes()


def test_the_wheel_holds_the_licence(wheel: Path) -> None:
    """The licence travels with the package's metadata."""
    with ZipFile(wheel) as archive:
        assert any(n.endswith(".dist-info/licenses/LICENSE") for n in archive.namelist())


def test_the_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    """Three packages and the metadata: no tests, no tools, no caches."""
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tops = {n.split("/")[0] for n in names if ".dist-info/" not in n}
    assert tops == {"cascade", "judges", "evals"}
    modules = {str(p.relative_to(ROOT)) for top in tops for p in (ROOT / top).rglob("*.py")}
    assert modules <= names
    assert not [n for n in names if "test" in n.lower() or "__pycache__" in n]


def test_the_wheel_runs_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """The default policies and the starter recording are found in the installed package."""
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    here = tmp_path / "empty"
    here.mkdir()
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import cascade\n"
        "assert cascade.__file__.startswith(sys.argv[1]), cascade.__file__\n"
        "print(cascade.run('What is the capital of France? Reply with the answer only.').text)"
    )
    # Isolated, so that neither this checkout nor PYTHONPATH can stand in for a file that the wheel lacks.
    command = [sys.executable, "-I", "-c", code, str(tmp_path / "site")]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout
