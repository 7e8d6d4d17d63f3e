"""Variables in a policy file: read from the environment, typed like any value, and shown nowhere."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cascade import Cascade, PolicyError
from cascade.gateway.reload import Reloader
from cascade.gateway.state import Gateway
from cascade.policy.environment import EnvironmentText, VariableError, expand, hide
from cascade.policy.load import json_schema, load, parse
from tests.workers import warm_python

SECRET = "s3cr3t-value-0123456789"
FILE = """
models:
  small:
    provider: openai
    model: ${MODEL}
    base_url: "${ADDRESS:-http://localhost:1}/v1"
    headers: {api-key: "${KEY}", x-team: "${TEAM:-}"}
    max_tokens: ${MAX_TOKENS:-512}
    temperature: "${TEMPERATURE:-0.5}"
    logprobs: ${LOGPROBS:-true}
    structured: ${STRUCTURED:-off}
    options: {top_k: "${TOP_K:-40}", stop: "$${END}"}
    price: {input_per_mtok: "${PRICE:-0.1}", output_per_mtok: 1}
policies:
  default:
    budget_usd: ${BUDGET:-1}
    tiers: [{model: small, accept_at: "${ACCEPT:-0.5}", judges: [{use: rules, min_chars: "${MIN:-2}"}]}]
"""


@pytest.fixture(autouse=True)
def _set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADDRESS", "TEAM", "MAX_TOKENS", "TEMPERATURE", "LOGPROBS", "STRUCTURED", "TOP_K", "PRICE", "BUDGET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KEY", SECRET)
    monkeypatch.setenv("MODEL", "gpt-x")


def test_values_of_every_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers, flags, words and texts, quoted or not; ``$${`` is a plain ``${``."""
    spec = parse(FILE).models["small"]
    assert (spec.model, spec.base_url, spec.max_tokens, spec.temperature) == ("gpt-x", "http://localhost:1/v1", 512, 0.5)
    assert (spec.logprobs, spec.structured, spec.options) == (True, "off", {"top_k": 40, "stop": "${END}"})
    assert spec.headers == {"api-key": SECRET, "x-team": ""}
    monkeypatch.setenv("MAX_TOKENS", "7")
    monkeypatch.setenv("LOGPROBS", "false")
    monkeypatch.setenv("ADDRESS", "https://example.com")
    spec = parse(FILE).models["small"]
    assert (spec.max_tokens, spec.logprobs, spec.base_url) == (7, False, "https://example.com/v1")


@pytest.mark.parametrize(
    "value", ["123456", "true", "null", "1e3", "2026-01-01", "0x10", "007", "~", "[1]", "{a: 1}", "#x", "a: b"]
)
def test_a_text_stays_the_text(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A value of digits stays text, and YAML syntax in a value is not parsed."""
    monkeypatch.setenv("KEY", value)
    monkeypatch.setenv("MODEL", value)
    spec = parse(FILE.replace('{api-key: "${KEY}", ', "{api-key: '${KEY}', ")).models["small"]
    assert spec.headers["api-key"] == value
    assert spec.model == (None if value in ("null", "~") else value)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("model: ${NOWHERE}", r"policies.yaml:5: models.small.model: the environment variable NOWHERE is not set"),
        ("model: ${}", r"policies.yaml:5: models.small.model: '\$\{' begins a variable: write \$\{NAME\}"),
        ('model: "${MODEL"', r"policies.yaml:5: models.small.model: '\$\{' begins"),
        ("model: ${1A}", r"policies.yaml:5: models.small.model: '\$\{' begins"),
        ('model: "${A:-${B}}"', r"policies.yaml:5: models.small.model: '\$\{' begins"),
        ("max_tokens: ${KEY}", r"policies.yaml:5: models.small.max_tokens: .*integer"),
        ("timeout_s: ${KEY}", r"policies.yaml:5: models.small.timeout_s: .*number"),
        ("base_url: ${KEY}", r"policies.yaml:5: models.small.base_url: .*http"),
        ("provider: ${KEY}", r"policies.yaml:4: models.small.provider"),
        ("api_key_env: ${KEY}", r"policies.yaml:5: models.small.api_key_env"),
    ],
)
def test_errors_name_the_place_and_no_value(line: str, error: str) -> None:
    """File, line and key; never what the variable holds."""
    key = line.split(":")[0]
    lines = [other for other in FILE.splitlines() if not other.strip().startswith(f"{key}:")]
    lines.insert(3 if key == "provider" else 4, f"    {line}")
    text = "\n".join(lines)
    with pytest.raises(PolicyError, match=error) as raised:
        parse(text)
    assert SECRET not in str(raised.value)
    assert raised.value.__context__ is None or SECRET not in repr(raised.value.__context__)


@pytest.mark.parametrize("value", ["ten", "9", "sk-live-abc", "x" * 30, "zz'\"\n"])
@pytest.mark.parametrize("place", ["accept_at", "model", "use", "name", "budget_usd"])
def test_no_error_shows_a_value(monkeypatch: pytest.MonkeyPatch, value: str, place: str) -> None:
    """In every place: a threshold, an unknown model, a judge, a name."""
    monkeypatch.setenv("WRONG", value)
    tier: dict[str, Any] = {"model": "m", "accept_at": 0.5, "judges": [{"use": "rules"}]}
    policy: dict[str, Any] = {"tiers": [tier, dict(tier, name="other")]}
    if place == "use":
        tier["judges"] = [{"use": "${WRONG}"}]
    elif place == "budget_usd":
        policy["budget_usd"] = "${WRONG}"
    else:
        tier[place] = policy["tiers"][1][place] = "${WRONG}"
    data = {"models": {"m": {"provider": "openai"}}, "policies": {"default": policy}}
    with pytest.raises(PolicyError) as raised:
        parse(yaml.safe_dump(data))
    quoted = str(raised.value).replace("0.9", "").replace("1.9", "")
    assert f"{value!r}" not in quoted
    assert len(value) < 4 or value not in quoted


def test_repr_hash_and_canonical_show_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash is the same in every process, and changes with the value all the same."""
    text = FILE.replace('min_chars: "${MIN:-2}"', 'pattern: "${KEY}"').replace('top_k: "${TOP_K:-40}"', 'token: "${KEY}"')
    file = parse(text)
    policy = file.policies["default"]
    for printed in (repr(file), str(file), repr(policy), policy.canonical, repr(file.models["small"]), f"{file!s}"):
        assert SECRET not in printed
    assert policy.tiers[0].judges[0].options["pattern"] == SECRET
    assert parse(text).policies["default"].hash == policy.hash
    code = "import sys; from cascade.policy.load import parse; print(parse(sys.stdin.read()).policies['default'].hash)"
    done = warm_python.run([sys.executable, "-c", code], input=text, capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout.strip() == policy.hash
    monkeypatch.setenv("KEY", "another-value")
    assert parse(text).policies["default"].hash != policy.hash


def test_without_variables_the_hash_is_as_before() -> None:
    """A file that could hold a variable is the same policy as one that does not."""
    plain = FILE.replace('"${MIN:-2}"', "2").replace('"${ACCEPT:-0.5}"', "0.5").replace("${BUDGET:-1}", "1")
    assert parse(plain).policies["default"].hash == parse(FILE).policies["default"].hash


def test_the_schema_allows_variables() -> None:
    """The schema accepts a variable in place of any number, flag or word."""
    validator = jsonschema.Draft202012Validator(json_schema())
    data = yaml.safe_load(FILE)
    assert list(validator.iter_errors(data)) == []
    data["models"]["small"]["max_tokens"] = "many"
    assert list(validator.iter_errors(data))


def test_a_reload_reads_the_environment_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And an error in it leaves the file in service, without the value in the log or the status."""
    path = tmp_path / "policies.yaml"
    text = (
        "models: {m: {provider: scripted, answers: ['${WORD}']}}\npolicies: {default: {tiers: [{model: m, accept_at: 0}]}}"
    )
    path.write_text(text)
    monkeypatch.setenv("WORD", "first")

    async def go() -> None:
        gateway = Gateway(load(path))
        reloader = Reloader(gateway, path)

        async def says() -> str:
            with gateway.active as cascade:
                return (await cascade.arun("?")).text

        assert await says() == "first"
        monkeypatch.setenv("WORD", "second")
        await reloader.reload()
        assert await says() == "second"
        monkeypatch.setenv("WORD", "wrong-accept-at")
        path.write_text(text.replace("accept_at: 0", "accept_at: '${WORD}'"))
        await reloader.reload()
        assert await says() == "second"
        assert gateway.reload_status.error is not None
        assert "wrong-accept-at" not in gateway.reload_status.error
        await gateway.aclose()

    asyncio.run(go())


def test_a_header_from_the_environment_is_sent_and_never_echoed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that quotes it does not bring it into an error."""
    from tests.wire_server import Reply, WireServer

    with WireServer() as server:
        monkeypatch.setenv("ADDRESS", server.base_url)
        server.reply = Reply({"error": {"message": f"wrong key {SECRET}"}}, status=401)
        file = parse(FILE)

        async def go() -> str:
            async with Cascade(file) as cascade:
                with pytest.raises(Exception, match="401") as raised:
                    await cascade.arun("?")
                return str(raised.value)

        assert SECRET not in asyncio.run(go())
        assert server.received[0].headers["api-key"] == SECRET
        assert "authorization" not in server.received[0].headers


@given(st.text())
def test_a_text_without_variables_is_itself(text: str) -> None:
    """Only ``${`` means anything."""
    if "${" not in text:
        assert expand(text) is text


@given(
    value=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=4),
    before=st.text(),
    after=st.text(),
)
def test_hidden_values_are_gone(value: str, before: str, after: str) -> None:
    """Whole, and by their beginning."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIDDEN", value)
        text = expand("${HIDDEN}")
    assert isinstance(text, EnvironmentText)
    assert (str(text), repr(text)) == (value, "'${HIDDEN}'")
    if value not in "${HIDDEN}${KEY}${MODEL}${WORD}${WRONG}":
        assert value not in hide(f"x{value}y") or value in "x${HIDDEN}y"
    assert json.dumps(text) == json.dumps(value)


def test_set_but_empty() -> None:
    """Is a value, unless there is a default, as in a shell."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMPTY", "")
        assert expand("a${EMPTY}b") == "ab"
        assert expand("${EMPTY:-c}") == "c"
    with pytest.raises(VariableError):
        expand("${EMPTY_}")
