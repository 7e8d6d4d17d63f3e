"""Small files that unpack to gigabytes: every reader names the file and the place, within a limit on memory."""

import gzip
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cascade.util import bounded_read
from cascade.util.bounded_read import UnreadableFileError, read_document, read_lines
from evals.common import parquet_reader
from evals.importers.command import FORMATS
from tests.workers import warm_python

MEMORY_BYTES = 2 << 30
UNPACKED_BYTES = 3 << 30
_BLOCK = 16 << 20
# Threads of a linear algebra library would reserve address space each.
ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


SERVER = """
import contextlib, io, json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))
for line in sys.stdin:
    code, argv = json.loads(line)
    names, output = {{}}, io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        exec(code, names)
        try:
            status = names["main"](argv)
        except SystemExit as exit:
            status = exit.code
    print(json.dumps([status or 0, output.getvalue()]), flush=True)
"""


class LimitedProcess:
    """A process under the memory limit, in which commands run one after another: each would spend its time on imports."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", SERVER.format(limit=MEMORY_BYTES)]
        pipe = subprocess.PIPE
        self._process = warm_python.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT)

    def run(self, code: str, *argv: object) -> tuple[int, str]:
        """Runs code that defines ``main`` with the arguments; its exit status and output."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(json.dumps([code, list(map(str, argv))]) + "\n")
        process.stdin.flush()
        response = process.stdout.readline()
        assert response, process.stderr.read()
        status, output = json.loads(response)
        return status, output

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def limited() -> Iterator[LimitedProcess]:
    """One process for this module."""
    process = LimitedProcess()
    yield process
    process.close()


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A first line of a recording, and a second that unpacks to 3 GB."""
    path = tmp_path_factory.mktemp("bomb") / "bomb.jsonl.gz"
    member = gzip.compress(b" " * _BLOCK, 1)
    first = gzip.compress(b'{"id": "a", "prompt": "x", "answers": {"m": {"text": "y"}}}\n{"id": "')
    path.write_bytes(first + member * (UNPACKED_BYTES // _BLOCK))
    assert path.stat().st_size < 20e6
    return path


COMMANDS = {
    "show": ("from evals.recording.command import main", ["show", "{file}"]),
    "merge": ("from evals.recording.command import main", ["merge", "{file}", "--out", "{folder}/out.jsonl"]),
    "grade": ("from evals.grade.command import main", ["{file}", "--grader", "text"]),
    "replay": ("from evals.replay.command import main", ["{file}", "--tiers", "m"]),
    "record": ("from evals.record.command import main", ["{file}", "--out", "{folder}/out.jsonl"]),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_line_that_unpacks_to_gigabytes(limited: LimitedProcess, bomb: Path, tmp_path: Path, command: str) -> None:
    """Every command that reads a recording or a dataset ends with an error that names file and line."""
    code, argv = COMMANDS[command]
    status, output = limited.run(code, *(arg.format(file=bomb, folder=tmp_path) for arg in argv))
    assert status == 2, output
    assert f"{bomb}:2: the line is larger than 64 MB when read" in output
    assert "Traceback" not in output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", FORMATS)
def test_a_log_that_unpacks_to_gigabytes(limited: LimitedProcess, bomb: Path, tmp_path: Path, format: str) -> None:
    """Every importer ends with an error that names the file."""
    code = "from evals.recording.command import main"
    status, output = limited.run(code, "import", format, bomb, "--input", bomb, "--out", tmp_path / "out.jsonl")
    assert status == 2, output
    assert str(bomb) in output
    assert "Traceback" not in output
    assert not list(tmp_path.iterdir())


def test_a_recorded_model_of_a_bomb(limited: LimitedProcess, bomb: Path) -> None:
    """A policy's recording is read with the same limit."""
    code = (
        "from cascade.errors import PolicyError\n"
        "from cascade.models.recorded import RecordedModel\n"
        "def main(argv):\n"
        "    try:\n"
        "        RecordedModel.from_file('m', 'm', argv[0])\n"
        "    except PolicyError as error:\n"
        "        print(error)\n"
        "        return 2\n"
    )
    status, output = limited.run(code, bomb)
    assert status == 2, output
    assert f"{bomb}:2: the line is larger than 64 MB" in output


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "folder/one.txt"])
def test_a_sparse_dataset(limited: LimitedProcess, tmp_path: Path, name: str) -> None:
    """Three gigabytes without a line end, which take no room on the disk."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"prompt\nx" if name.endswith(".csv") else b"")
        file.truncate(UNPACKED_BYTES)
    dataset = path if path.parent == tmp_path else path.parent
    status, output = limited.run("from evals.record.command import main", dataset, "--out", tmp_path / "out.jsonl")
    assert status == 2, output
    assert "is larger than 64 MB when read" in output
    assert str(path) in output


def test_a_csv_row_over_many_lines(limited: LimitedProcess, tmp_path: Path) -> None:
    """The limit counts a quoted cell with line breaks as one row, and starts again with the next."""
    path = tmp_path / "rows.csv"
    line = "x" * 1_000_000 + "\n"
    with open(path, "w", encoding="utf-8") as file:
        file.write("prompt,more\n")
        file.write(f'"{line * 40}","{line}"\n')
        file.write(f'"{line * 40}","{line * 40}"\n')
    status, output = limited.run("from evals.record.command import main", path, "--out", tmp_path / "out.jsonl")
    assert status == 2, output
    assert "the row is larger than 64 MB" in output
    number = int(output.partition("rows.csv:")[2].partition(":")[0])
    assert 41 + 64 < number < 43 + 70


def test_a_member_of_an_archive(limited: LimitedProcess, tmp_path: Path) -> None:
    """A sample in a log of inspect_ai that unpacks to more than 256 MB is named."""
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("header.json", '{"version": 2, "eval": {"task": "t", "model": "m"}}')
        with archive.open("samples/1_epoch_1.json", "w", force_zip64=True) as member:
            for _ in range(17):
                member.write(bytes(_BLOCK))
    assert path.stat().st_size < 5e6
    code = "from evals.recording.command import main"
    status, output = limited.run(code, "import", "inspect_ai", path, "--out", tmp_path / "out.jsonl")
    assert status == 2, output
    assert f"{path}: samples/1_epoch_1.json: the file in the archive is larger than 256 MB" in output


def test_a_parquet_dictionary(limited: LimitedProcess, tmp_path: Path) -> None:
    """A value that a file holds once and 1,200 rows repeat is read a few rows at a time."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    prompt = arrow.DictionaryArray.from_arrays(arrow.array([0] * 1200, arrow.int32()), arrow.array(["x" * 2_000_000]))
    table = arrow.table({"id": [str(i) for i in range(1200)], "prompt": prompt})
    parquet.write_table(table, path, dictionary_pagesize_limit=1 << 30, compression="zstd")
    assert path.stat().st_size < 1e6
    code = (
        "from evals.common.parquet_reader import read_rows\n"
        "def main(argv):\n"
        "    print(sum(len(row['prompt']) for row in read_rows(argv[0])))\n"
    )
    status, output = limited.run(code, path)
    assert (status, output.strip()) == (0, str(1200 * 2_000_000)), output


def test_a_parquet_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row group that unpacks to more than the limit is refused before it is read."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    parquet.write_table(arrow.table({"prompt": [f"{i}" + "x" * 50_000 for i in range(100)]}), path, compression="zstd")
    assert len(list(parquet_reader.read_rows(path))) == 100
    monkeypatch.setattr(parquet_reader, "MAX_GROUP_BYTES", 1 << 20)
    with pytest.raises(UnreadableFileError, match=r"rows.parquet: row group 1 unpacks to 4 MB, more than 1; write smaller"):
        list(parquet_reader.read_rows(path))


def test_the_limits_are_exact(tmp_path: Path) -> None:
    """A line of just the limit is read, one more byte is an error; so is a document."""
    path = tmp_path / "file"
    path.write_bytes(b"123456\n12345")
    assert list(read_lines(path, 7)) == [b"123456\n", b"12345"]
    assert read_document(path, 12) == path.read_bytes()
    with pytest.raises(UnreadableFileError, match=r"file:1: the line is larger"):
        list(read_lines(path, 6))
    with pytest.raises(UnreadableFileError, match=r"file: the file is larger"):
        read_document(path, 11)
    assert bounded_read.MAX_LINE_BYTES < bounded_read.MAX_DOCUMENT_BYTES < MEMORY_BYTES
