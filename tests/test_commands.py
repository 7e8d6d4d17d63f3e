"""The console script and ``python -m``, in folders where a file of the user's has the name of one of our packages."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cascade.util.own_packages import NameCollisionError, check_own
from tests.distribution import install

POLICIES = """imports: [my_judges]
models:
  m: {provider: scripted, answers: ["51"]}
policies:
  default: {tiers: [{model: m, accept_at: 0.6, judges: [mine]}]}
"""
MY_JUDGES = """
from judges import judge

@judge("mine")
def mine(prompt, answer):
    return 0.9
"""
EVALS = ("record", "grade", "replay", "recording", "demo")
MODULES = ("cascade", *(f"evals.{name}" for name in EVALS))
OWN_FILES = {
    "judges.py": "from judges import judge\n",
    "judges/__init__.py": "import cascade\n",
    "evals.py": "import cascade\n",
    "evals/__init__.py": "",
    "cascade.py": "import judges\n",
}


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console script of this checkout."""
    return install(tmp_path_factory.mktemp("site"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with a policy file that imports a judge of its own."""
    (tmp_path / "policies.yaml").write_text(POLICIES)
    (tmp_path / "my_judges.py").write_text(MY_JUDGES)
    return tmp_path


def own_file(folder: Path, name: str) -> Path:
    """Writes one of the files that are in the way."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(OWN_FILES[name])
    return path


def environment(script: Path) -> dict[str, str]:
    """Without what would change the commands' ways; the metadata beside the script counts as installed."""
    variables = {
        k: v for k, v in os.environ.items() if not k.startswith(("CASCADE_", "PYTHON")) and not k.endswith("_API_KEY")
    }
    return {**variables, "PYTHONPATH": str(script.parents[1])}


def call(script: Path, *command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """One process, started in ``cwd``."""
    words = list(map(str, command))
    return subprocess.run(words, cwd=cwd, env=environment(script), capture_output=True, text=True, timeout=60)


def one_line(text: str) -> str:
    """The text, which must be a single line and no traceback."""
    assert "Traceback" not in text
    assert "circular" not in text
    (line,) = text.strip().splitlines()
    return line


def test_the_script_lists_every_command_in_groups(script: Path, folder: Path) -> None:
    """Those of evals, too, which come by entry point."""
    done = call(script, script, "--help", cwd=folder)
    assert done.returncode == 0, done.stderr
    listed = re.findall(r"^  ([a-z-]+) +\S", done.stdout.partition("\noptions:")[0], re.MULTILINE)
    assert listed == [
        *("run", "gate", "explain", "check", "schema", "serve", "keys", "promise", "canary", "journal"),
        *("record", "grade", "replay", "recording", "grade-shadows", "audit", "demo"),
    ]
    assert re.findall(r"^(\S.*):$", done.stdout, re.MULTILINE)[:3] == [
        "ask and check",
        "serve and watch",
        "measure, tune and certify",
    ]
    assert all(len(line) < 100 for line in done.stdout.splitlines())


def test_the_version_is_that_of_the_distribution(script: Path, folder: Path) -> None:
    """In both spellings."""
    import cascade

    for command in ([script], [sys.executable, "-m", "cascade"]):
        assert call(script, *command, "--version", cwd=folder).stdout == f"cascade {cascade.__version__}\n"


@pytest.mark.parametrize("command", EVALS)
def test_commands_of_evals_do_the_same_in_every_spelling(script: Path, folder: Path, command: str) -> None:
    """``cascade X``, ``python -m cascade X`` and ``python -m evals.X``: one help, by its own name."""
    spellings = {
        f"cascade {command}": [script, command],
        f"python -m cascade {command}": [sys.executable, "-m", "cascade", command],
        f"python -m evals.{command}": [sys.executable, "-m", f"evals.{command}"],
    }
    helps = {}
    for name, words in spellings.items():
        done = call(script, *words, "--help", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"usage: {name} ")
        body = done.stdout.partition("\n\n")[2]
        helps[name] = body
    assert len(set(helps.values())) == 1


@pytest.mark.parametrize("spelling", ["script", "module", "evals"])
def test_exit_statuses_are_those_of_the_command(script: Path, folder: Path, spelling: str) -> None:
    """2 for a file that is not there, in one line."""
    words = {
        "script": [script, "grade"],
        "module": [sys.executable, "-m", "cascade", "grade"],
        "evals": [sys.executable, "-m", "evals.grade"],
    }[spelling]
    done = call(script, *words, "none.jsonl", "--grader", "number", cwd=folder)
    assert done.returncode == 2
    assert "none.jsonl" in one_line(done.stderr)


def test_an_unknown_command_names_the_nearest(script: Path, folder: Path) -> None:
    """Also one of evals."""
    done = call(script, script, "replya", cwd=folder)
    assert done.returncode == 2
    assert "did you mean 'replay'?" in one_line(done.stderr)
    assert call(script, script, cwd=folder).returncode == 2


@pytest.mark.parametrize("name", OWN_FILES)
def test_the_script_works_beside_any_file(script: Path, folder: Path, name: str) -> None:
    """The working directory is not on its path, but a judge next to the policy file is found."""
    own_file(folder, name)
    done = call(script, script, "run", "--json", "17 * 3?", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["attempts"][0]["verdicts"][0]["score"] == 0.9


@pytest.mark.parametrize("names", [("judges.py", "evals.py", "cascade.py"), ("judges/__init__.py", "evals/__init__.py")])
@pytest.mark.parametrize("command", ["check", "replay --help"])
def test_other_commands_of_the_script_work_beside_such_files(
    script: Path, folder: Path, names: tuple[str, ...], command: str
) -> None:
    """Those of the library and those of evals."""
    for name in names:
        own_file(folder, name)
    done = call(script, script, *command.split(), cwd=folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["judges.py", "judges/__init__.py"])
@pytest.mark.parametrize("module", MODULES)
def test_python_m_names_the_file_in_the_way(script: Path, folder: Path, name: str, module: str) -> None:
    """In one line with the remedy."""
    path = own_file(folder, name)
    done = call(script, sys.executable, "-m", module, "--help", cwd=folder)
    line = one_line(done.stderr)
    assert done.returncode == 2
    assert str(path) in line
    assert "Rename" in line


@pytest.mark.parametrize("module", MODULES)
def test_python_m_works_beside_any_file_with_the_remedy(script: Path, folder: Path, module: str) -> None:
    """`-P` leaves the working directory off the path, whatever is in it."""
    for name in ("judges.py", "judges/__init__.py"):
        own_file(folder, name)
    done = call(script, sys.executable, "-P", "-m", module, "--help", cwd=folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["evals.py", "evals/__init__.py"])
def test_an_evals_in_the_way_stops_only_its_commands(script: Path, folder: Path, name: str) -> None:
    """``python -m cascade`` runs; what evals adds to it names the file."""
    path = own_file(folder, name)
    assert call(script, sys.executable, "-m", "cascade", "run", "q", cwd=folder).returncode == 0
    done = call(script, sys.executable, "-m", "cascade", "replay", cwd=folder)
    assert done.returncode == 2
    assert str(path) in one_line(done.stderr)
    output = call(script, sys.executable, "-m", "cascade", "--help", cwd=folder)
    assert output.returncode == 0
    assert str(path) in output.stdout


@pytest.mark.parametrize("name", ["judges.py", "judges/__init__.py"])
@pytest.mark.parametrize("first", ["import cascade", "from cascade import run", "from cascade.client import Cascade"])
def test_a_program_beside_such_a_file_is_told_which(script: Path, folder: Path, name: str, first: str) -> None:
    """An ImportError that names the file and the remedy, not a circular import."""
    path = own_file(folder, name)
    program = folder / "program.py"
    program.write_text(first + "\n")
    done = call(script, sys.executable, program, cwd=folder)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert "circular" not in done.stderr
    assert last.startswith("cascade.util.own_packages.NameCollisionError: cascade needs its own package 'judges'")
    assert str(path) in last
    assert "Rename" in last


def test_another_distribution_in_the_way_is_named(
    script: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One that comes before ours on the path stops the script, too, in one line."""
    other = own_file(tmp_path_factory.mktemp("other"), "judges/__init__.py")
    env = {**environment(script), "PYTHONPATH": f"{other.parents[1]}{os.pathsep}{script.parents[1]}"}
    done = subprocess.run([str(script), "run", "q"], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert str(other) in one_line(done.stderr)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "judges/__init__.py was overwritten by another distribution"),
        (None, "judges/__init__.py is missing. Install cascade-gate again."),
    ],
)
def test_another_distribution_installed_over_ours_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, message: str
) -> None:
    """It overwrites the file that both have; uninstalling it removes ours."""
    (tmp_path / "judges").mkdir()
    if text is not None:
        (tmp_path / "judges" / "__init__.py").write_text(text)
    monkeypatch.setattr("cascade.util.own_packages._TOP", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "judges", raising=False)
    with pytest.raises(NameCollisionError, match=f"cascade needs its own package 'judges', but .*{message}"):
        check_own("judges")


def test_a_cascade_in_the_way_of_evals_is_named(script: Path, folder: Path) -> None:
    """One line says which file, and what to do."""
    path = own_file(folder, "cascade.py")
    path.write_text("")
    done = call(script, sys.executable, "-m", "evals.replay", cwd=folder)
    assert done.returncode == 2
    assert str(path) in one_line(done.stderr)
    done = call(script, sys.executable, "-c", "import evals.replay", cwd=folder)
    assert str(path) in done.stderr.strip().splitlines()[-1]


def test_the_gateway_finds_a_judge_beside_its_policy_file(script: Path, folder: Path) -> None:
    """Started by the script, beside a file in the way."""
    own_file(folder, "judges.py")
    command = [str(script), "serve", "--port", "0", "--stop-on-eof"]
    env = environment(script)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, env=env, stdin=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stderr is not None
            lines = []
            for line in process.stderr:
                lines.append(line)
                if "serves" in line:
                    break
            (url,) = re.findall(r"http://\S+", lines[-1])
            from urllib.request import ProxyHandler, Request, build_opener

            body = json.dumps({"model": "default", "messages": [{"role": "user", "content": "17 * 3?"}]}).encode()
            request = Request(f"{url}/chat/completions", body, {"content-type": "application/json"})
            with build_opener(ProxyHandler({})).open(request, timeout=20) as response:
                assert json.load(response)["choices"][0]["message"]["content"] == "51"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("cascade run --polcy x q", "did you mean '--policy'?"),
        ("evals.recording show --jsn r.jsonl", "did you mean '--json'?"),
        ("evals.replay --max-lss 0.1", "did you mean '--max-loss'?"),
    ],
)
def test_an_unknown_option_is_answered_with_the_nearest(command: str, hint: str) -> None:
    """In the error of every command, those of subcommands included."""
    words = [sys.executable, "-m", *command.split()]
    result = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert hint in result.stderr.splitlines()[-1]
