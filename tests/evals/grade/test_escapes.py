"""Programs that would be graded 1.0 although they are wrong, read what is not theirs or reach what is outside: none may."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib import util
from pathlib import Path

import pytest

from evals.grade import GraderError
from evals.grade.code import CodeGrader, GradingCase

_spec = util.spec_from_file_location("escapes", Path(__file__).with_name("escapes.py"))
assert _spec is not None
assert _spec.loader is not None
escapes = util.module_from_spec(_spec)
_spec.loader.exec_module(escapes)

WALLED = CodeGrader(seconds=1)
TESTS = "assert double(2) == 4\nassert double(3) == 6\nassert abs(double(-2)) == 4"
CLOSE = "assert abs(double(2) - 4) < 1e-6\nassert abs(6 - double(3)) < 1e-6"
LIARS = [name for name in escapes.FORGED if name.startswith(("an ", "a mock", "mock", "a class"))]
NO_IMPORT = "assert math.isclose(double(2), 4)"
# Heavy ones: they use their whole time or memory.
SLOW = {
    "threads without end",
    "forks without end",
    "files without end",
    "output without end",
    "a flood of frames",
    "a huge number",
    "recursion without end",
    "a huge reply",
    "signals ignored, a loop",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is outside: files, servers, a process, and what must not come to be."""

    folder: str
    canary: str
    secret: str
    victim: int
    port: int
    udp: int
    unix: str
    abstract: str
    shared: str
    mark: str

    def names(self) -> dict[str, str | int]:
        return {name: getattr(self, name) for name in self.__slots__}


Outside = tuple[World, list[socket.socket], subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def outside(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Outside]:
    folder = tmp_path_factory.mktemp("outside")
    folder.chmod(0o777)
    for parent in list(folder.parents)[:2]:
        parent.chmod(0o755)
    secret = f"canary-{secrets.token_hex(8)}"
    (folder / "canary").write_text(secret, encoding="utf-8")
    (folder / "canary").chmod(0o666)
    mark = str(100_000 + secrets.randbelow(800_000))
    shared = Path("/dev/shm", secret)
    with ExitStack() as stack:
        if shared.parent.is_dir():
            shared.write_text(secret, encoding="utf-8")
            stack.callback(shared.unlink)
        os.environ["A_KEY"] = secret
        stack.callback(os.environ.pop, "A_KEY")
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        short = f"/tmp/{secret}"  # a socket's name may have 107 bytes
        path = stack.enter_context(socket.socket(socket.AF_UNIX))
        path.bind(short)
        stack.callback(os.unlink, short)
        os.chmod(short, 0o777)
        path.listen()
        servers = [tcp, udp, path]
        if sys.platform == "linux":
            abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
            abstract.bind(f"\0{secret}")
            abstract.listen()
            servers.append(abstract)
        for server in servers:
            server.setblocking(False)
        victim = stack.enter_context(subprocess.Popen(["sleep", "600"], start_new_session=True))
        stack.callback(victim.kill)
        world = World(
            folder=str(folder), canary=str(folder / "canary"), secret=secret, victim=victim.pid, port=tcp.getsockname()[1],
            udp=udp.getsockname()[1], unix=short, abstract=secret, shared=secret, mark=mark,
        )  # fmt: skip
        yield world, servers, victim


@pytest.fixture(scope="module", autouse=True)
def _walls() -> None:
    try:
        WALLED.grade(GradingCase(text="x = 1", reference="assert x == 1"))
    except GraderError as error:
        pytest.skip(str(error))


def _untouched(world: World, servers: list[socket.socket], victim: subprocess.Popen[bytes]) -> None:
    assert os.listdir(world.folder) == ["canary"]
    assert Path(world.canary).read_text(encoding="utf-8") == world.secret
    assert Path(world.canary).stat().st_mode & 0o777 == 0o666
    assert victim.poll() is None
    for server in servers:
        with pytest.raises(BlockingIOError):
            server.recv(1) if server.type == socket.SOCK_DGRAM else server.accept()
    assert not Path("/dev/shm", world.mark).exists()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            assert world.mark not in process.read_text(errors="replace")


def test_there_are_at_least_a_hundred() -> None:
    """The number that the documentation states."""
    assert len(escapes.FORGED) + len(escapes.AROUND) + len(escapes.STOLEN) + len(escapes.REACHED) >= 100


def _cases(texts: dict[str, str]) -> list[object]:
    return [pytest.param(text, id=name, marks=[pytest.mark.slow] if name in SLOW else []) for name, text in texts.items()]


@pytest.mark.parametrize("text", _cases(escapes.FORGED))
def test_no_wrong_answer_is_graded_right(text: str) -> None:
    """The verdict is formed where the program is not, on what it returns."""
    assert WALLED.grade(GradingCase(text=text, reference=TESTS)) != 1.0


@pytest.mark.parametrize("name", LIARS)
def test_no_wrong_object_is_close(name: str) -> None:
    """What an object says of its difference from a number is no verdict either."""
    assert WALLED.grade(GradingCase(text=escapes.FORGED[name], reference=CLOSE)) != 1.0


@pytest.mark.parametrize(("text", "tests"), escapes.AROUND.values(), ids=escapes.AROUND)
def test_no_way_around_the_tests(text: str, tests: str) -> None:
    """Nor what the tests' own loops, contexts and comparisons would take for a pass."""
    assert WALLED.grade(GradingCase(text=text, reference=tests)) != 1.0


@pytest.mark.parametrize("text", _cases(escapes.STOLEN))
def test_nothing_outside_is_read(text: str, outside: Outside) -> None:
    """No file, environment or memory of anybody else's is there to be read."""
    world = outside[0]
    program = text.format(**world.names())
    assert WALLED.grade(GradingCase(text=program, reference=f"assert {world.secret!r} in leak()")) != 1.0
    _untouched(*outside)


@pytest.mark.parametrize("text", _cases(escapes.REACHED))
def test_nothing_outside_is_reached(text: str, outside: Outside) -> None:
    """No server, process or file outside notices anything, whatever the grade."""
    program = text.format(**outside[0].names()) + "\nreached = True"
    WALLED.grade(GradingCase(text=program, reference="assert reached"))
    _untouched(*outside)
    assert shutil.which("sleep"), "or a process left would not be one"


def test_what_judges_is_not_the_program_s() -> None:
    """A module that the tests use without importing it is the standard library's, whatever the program calls so."""
    text = "import math\ndef double(x): return 2 * x"
    assert WALLED.grade(GradingCase(text=text, reference=NO_IMPORT)) == 1.0
    shadow = "class math:\n    isclose = lambda *_: True\ndef double(x): pass"
    assert WALLED.grade(GradingCase(text=shadow, reference=NO_IMPORT)) == 0.0


def test_the_promise_counts_the_attempts() -> None:
    """SECURITY.md promises at least 60, and says how many there are."""
    count = sum(map(len, (escapes.FORGED, escapes.STOLEN, escapes.REACHED, escapes.AROUND)))
    assert count >= 60
    assert f"holds {count} attempts" in (Path(__file__).parents[3] / "SECURITY.md").read_text(encoding="utf-8")
