"""The image, compose.yaml, Kubernetes manifests, Prometheus' and Grafana's files: parsed, checked; started."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cascade import __version__ as VERSION
from cascade.gateway.auth.key_file import KeyFile
from cascade.policy import load, state_spec
from tests.workers import warm_python

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
METRICS = json.loads((ROOT / "tests/golden/expected/metrics.json").read_text())


def stages() -> list[list[tuple[str, str]]]:
    """The Dockerfile's instructions, by stage."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    parts: list[list[tuple[str, str]]] = []
    for line in filter(None, text.splitlines()):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            parts.append([])
        if parts:  # what stands before the first stage is an argument of all
            parts[-1].append((name, rest.strip()))
    return parts


def instruction(name: str) -> str:
    """The last instruction of that name in the final stage."""
    return [rest for other, rest in stages()[-1] if other == name][-1]


def image_environment() -> dict[str, str]:
    """What the image sets."""
    return dict(pair.split("=", 1) for pair in shlex.split(instruction("ENV")))


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_the_image_runs_as_a_user_and_holds_no_tools() -> None:
    """Not root, with a health check, and without the stage that has pip and compilers."""
    build, final = stages()
    assert instruction("USER") == "10001"
    assert "--uid 10001" in instruction("RUN")
    names = [name for name, _ in final]
    assert names.index("USER") > names.index("RUN")
    assert "HEALTHCHECK" in names
    assert [rest for name, rest in final if name == "COPY"] == ["--from=build /opt/cascade /opt/cascade"]
    for name, rest in build:
        if name == "COPY":
            *sources, _ = rest.split()
            assert all((ROOT / source).exists() for source in sources)
            ignored = (ROOT / ".dockerignore").read_text().splitlines()
            assert all(f"!{source}" in ignored for source in sources)


def pins(name: str) -> dict[str, tuple[str, list[str]]]:
    """A file of pinned versions: each package's version, and the hashes of its files."""
    text = (DEPLOY / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    matches = [re.match(r"([a-z0-9-]+)==([^ ;]+)", line) for line in lines]
    return {
        m[1]: (m[2], re.findall(r"--hash=sha256:([0-9a-f]{64})", line)) for m, line in zip(matches, lines, strict=True) if m
    }


@pytest.mark.parametrize("name", ["requirements.lock", "build.lock"])
def test_every_package_of_the_image_is_pinned_by_hash(name: str) -> None:
    """And pip refuses what has no hash."""
    assert pins(name)
    assert all(hashes for _, hashes in pins(name).values())
    commands = " ".join(rest for instruction, rest in stages()[0] if instruction == "RUN")
    assert f"--require-hashes -r deploy/{name}" in commands
    assert commands.count("pip install") == commands.count("--require-hashes") + commands.count("--no-index --no-deps")


def test_the_pinned_versions_are_what_the_project_asks_for() -> None:
    """Of the gateway and of the extras that the image has; `make lock` writes them anew."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(re.findall(r"--extra ([a-z]+)", (ROOT / "Makefile").read_text()))
    assert {"gateway", "postgres", "fast"} <= extras
    locked = pins("requirements.lock")
    for line in [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)][0]), line


@pytest.mark.slow
def test_the_image_builds_as_plain_processes_and_lists_what_it_holds(tmp_path: Path) -> None:
    """The build stage's own commands, in folders of this test; the list names every package but those that only build."""
    build, image = tmp_path / "build", tmp_path / "cascade"
    source = tmp_path / "src"
    for name, rest in stages()[0]:
        if name == "COPY":
            *sources, target = rest.split()
            for path in sources:
                into = source / target / (Path(path).name if target.endswith("/") else "")
                into.parent.mkdir(parents=True, exist_ok=True)
                (shutil.copytree if (ROOT / path).is_dir() else shutil.copy)(ROOT / path, into)
        elif name == "RUN":
            command = rest.replace("/opt/cascade", str(image)).replace("/opt/build", str(build))
            command = re.sub(r"(^|&& )python ", rf"\1{sys.executable} ", command)
            ran = subprocess.run(["bash", "-ec", command], cwd=source, capture_output=True, text=True, timeout=600)
            if re.search("No matching distribution found|Network is unreachable|Temporary failure in name", ran.stderr):
                pytest.skip("the package index here does not have the pinned versions")
            assert ran.returncode == 0, ran.stderr[-2000:]
    listed = json.loads((image / "sbom.cdx.json").read_text())
    assert listed["bomFormat"] == "CycloneDX"
    versions = {canonicalize_name(each["name"]): each["version"] for each in listed["components"]}
    locked = {name: version for name, (version, _) in pins("requirements.lock").items()}
    assert versions.pop("cascade-gate") == VERSION
    for tool in ("pip", "setuptools"):  # what Python itself puts into a new environment, before 3.12
        versions.pop(tool, None)
    assert versions
    assert versions.items() <= locked.items()
    assert {"starlette", "psycopg", "openai", "anthropic"} <= versions.keys()
    ran = subprocess.run([image / "bin/cascade", "--version"], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert VERSION in ran.stdout


@pytest.mark.parametrize("workers", [None, "2"])
def test_the_images_command_serves(tmp_path: Path, workers: str | None) -> None:
    """As a plain process with the image's environment: healthy by its own check, with keys, stopped by its signal."""
    _, secret = KeyFile(tmp_path / "other.db").create("ana")
    port = str(free_port())
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    environment |= {name: value for name, value in image_environment().items() if name != "PATH"}
    environment |= {"CASCADE_PORT": port, "CASCADE_KEYS": f"ana={secret}", "PYTHONPATH": str(ROOT)}
    environment |= {"CASCADE_JOURNAL": f"sqlite:///{tmp_path}/j.db"}
    if workers is not None:
        environment["CASCADE_WORKERS"] = workers
    assert json.loads(instruction("ENTRYPOINT")) == ["cascade"]
    command = [sys.executable, "-m", "cascade", *json.loads(instruction("CMD")), "--stop-on-eof"]
    check = json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])
    check = [sys.executable if word == "python" else word for word in check]
    pipe = subprocess.PIPE
    with warm_python.Popen(command, cwd=tmp_path, env=environment, stdin=pipe, stderr=pipe, text=True) as running:
        try:
            ends = time.monotonic() + 60
            while warm_python.run(check, env=environment, capture_output=True).returncode:
                assert running.poll() is None, running.communicate()[1]
                assert time.monotonic() < ends
                time.sleep(0.2)
            url = f"http://127.0.0.1:{port}"
            question = {"prompt": "What is the capital of France? Reply with the answer only."}
            assert httpx2.post(f"{url}/v1/route", json=question).status_code == 401
            headers = {"x-api-key": secret}
            assert httpx2.post(f"{url}/v1/route", json=question, headers=headers, timeout=30).json()["answer"] == "Paris"
            assert httpx2.get(f"{url}/readyz").status_code == 200
            assert "cascade_runs_total" in httpx2.get(f"{url}/metrics", headers=headers).text
            running.send_signal(signal.Signals[instruction("STOPSIGNAL")])
            _, err = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 0
    assert secret not in err
    assert all(json.loads(line)["time"] for line in err.splitlines())
    assert (tmp_path / "j.db").is_file()


def test_compose_starts_two_gateways_with_one_journal() -> None:
    """And one shared state; without root and without a secret in the file; every file that it mounts is there."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    assert services.keys() == {"gateway-1", "gateway-2", "postgres", "valkey", "prometheus", "grafana"}
    one, two = (services[name] for name in ("gateway-1", "gateway-2"))
    assert one.pop("ports") != two.pop("ports")
    assert one == two
    assert {name: one["depends_on"][name]["condition"] for name in ("postgres", "valkey")} == dict.fromkeys(
        ("postgres", "valkey"), "service_healthy"
    )
    assert state_spec.wrong(one["environment"]["CASCADE_STATE"]) is None
    assert (one["read_only"], one["cap_drop"]) == (True, ["ALL"])
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        for name, setting in service.get("environment", {}).items():
            if re.search("PASSWORD|KEYS|_KEY$", name):
                assert re.fullmatch(r"\$\{\w+:[?-].*\}", setting), name
        for volume in service.get("volumes", ()):
            source = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", volume).split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).resolve().exists(), source
    named = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", ())}
    assert compose["volumes"].keys() <= named
    targets = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"][0]["static_configs"]
    assert targets == [{"targets": ["gateway-1:8000", "gateway-2:8000"]}]


def test_every_variable_of_a_deployment_is_one_that_the_gateway_reads() -> None:
    """A misspelt name would be ignored in silence."""
    sources = "".join(path.read_text() for path in (ROOT / "cascade").rglob("*.py"))
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["gateway-1"]["environment"]
    (deployment,) = [one for one in manifests() if one["kind"] == "Deployment"]
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    names = {*compose, *image_environment(), *(one["name"] for one in container["env"])}
    for name in names:
        if name.startswith("CASCADE_"):
            assert name in sources, name


def manifests() -> list[dict[str, Any]]:
    """The Kubernetes manifests."""
    return list(yaml.safe_load_all((DEPLOY / "kubernetes/gateway.yaml").read_text()))


def test_the_manifests_agree_with_each_other() -> None:
    """Probes of routes that exist, secrets by reference, a disruption budget and a scaler of this deployment."""
    kinds = {one["kind"]: one for one in manifests()}
    assert kinds.keys() == {"Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"}
    pod = kinds["Deployment"]["spec"]["template"]
    labels, (container,) = pod["metadata"]["labels"], pod["spec"]["containers"]
    for selector in (
        kinds["Deployment"]["spec"]["selector"]["matchLabels"],
        kinds["Service"]["spec"]["selector"],
        kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    (port,) = container["ports"]
    assert str(port["containerPort"]) == image_environment()["CASCADE_PORT"]
    assert all(probe["port"] == port["name"] for probe in probes.values())
    assert kinds["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    assert container["args"] == json.loads(instruction("CMD"))
    assert str(pod["spec"]["securityContext"]["runAsUser"]) == instruction("USER")
    secrets = [one["name"] for one in container["env"] if "secretKeyRef" in one.get("valueFrom", {})]
    assert {"CASCADE_KEYS", "CASCADE_JOURNAL"} <= set(secrets)
    assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in pod["spec"]["volumes"]}
    scaler = kinds["HorizontalPodAutoscaler"]["spec"]
    target = scaler["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", kinds["Deployment"]["metadata"]["name"])
    pods = [one["pods"]["metric"]["name"] for one in scaler["metrics"] if one["type"] == "Pods"]
    assert all(name in METRICS for name in pods)
    assert kinds["PodDisruptionBudget"]["spec"]["minAvailable"] < scaler["minReplicas"]
    assert pod["spec"]["terminationGracePeriodSeconds"] > 5 + 30


def test_the_manifests_policies_are_valid() -> None:
    """The sample loads as any policy file."""
    assert load.load(DEPLOY / "kubernetes/policies.yaml").policies


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_reads_the_manifests() -> None:
    """Its own parser, with the generated config map."""
    command = ["kubectl", "kustomize", str(DEPLOY / "kubernetes")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    kinds = [one["kind"] for one in yaml.safe_load_all(done.stdout)]
    assert sorted(kinds) == ["ConfigMap", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service"]


def queries() -> list[tuple[str, str]]:
    """Every query of the dashboard and of the alerts, with where it is."""
    panels = json.loads((DEPLOY / "grafana/dashboard.json").read_text())["panels"]
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"][0]["rules"]
    return [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]] + [
        (rule["alert"], rule["expr"]) for rule in rules
    ]


@pytest.mark.parametrize(("title", "query"), queries())
def test_a_query_names_metrics_and_labels_that_exist(title: str, query: str) -> None:
    """As the golden list of metrics has them; brackets are balanced, counters are asked for their rate."""
    names = re.findall(r"\bcascade_\w+", query)
    assert names or "up{" in query
    labels = {"instance", "job", "le"}
    for name in names:
        assert name in METRICS, name
        labels |= set(METRICS[name]["labels"])
        if name.endswith(("_total", "_bucket")):
            assert re.search(rf"(rate|increase)\({name}", query), f"{name} counts up for ever"
    groups = [label.strip() for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(",")]
    matchers = re.findall(r"(\w+)[=!]~?\"", query)
    assert {*groups, *matchers} <= labels
    for opening, closing in ("()", "[]", "{}"):
        assert query.count(opening) == query.count(closing)


def test_every_alert_says_what_and_since_when() -> None:
    """A summary, a description, a severity, and a time for which it must hold."""
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["for"]
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    "arguments", [("check", "rules", "alerts.yml"), ("check", "config", "--syntax-only", "prometheus.yml")]
)
def test_promtool_reads_the_files(arguments: tuple[str, ...]) -> None:
    """Prometheus' own parser."""
    done = subprocess.run(["promtool", *arguments], cwd=DEPLOY / "prometheus", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
