"""policies.yaml: what is wrong is said with file, line, key and the nearest right name."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade import PolicyError
from cascade.data import POLICY_SCHEMA
from cascade.policy.load import json_schema, load, packaged, parse

GOOD = """\
version: 1
models:
  small:
    provider: scripted
    answers: [hi]
policies:
  default:
    tiers:
      - name: cheap
        model: small
        accept_at: 0.5
        judges:
          - schema
          - {use: self_consistency, samples: 4}
"""


def test_good() -> None:
    """A bare judge name and one with options are both understood."""
    policy = parse(GOOD).policies["default"]
    assert [j.use for j in policy.tiers[0].judges] == ["schema", "self_consistency"]
    assert policy.tiers[0].judges[1].options == {"samples": 4}


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("accept_at: 0.5", "acept_at: 0.5", r"p.yaml:11: policies.default.tiers\[0\].acept_at: unknown key; did you mean 'accept_at'"),
        ("accept_at: 0.5", "accept_at: 1.5", r"p.yaml:11: policies.default.tiers\[0\].accept_at: .*less than or equal to 1.*1.5"),
        ("accept_at: 0.5", "accept_at: high", r"p.yaml:11: .*valid number.*'high'"),
        ("model: small", "model: smal", r"p.yaml:10: policies.default.tiers\[0\].model: unknown model 'smal'; did you mean 'small'"),
        ("- schema", "- shema", r"p.yaml:13: .*unknown judge 'shema'; did you mean 'schema'"),
        ("samples: 4", "sample: 4", r"p.yaml:14: .*no option 'sample'; did you mean 'samples'"),
        ("samples: 4", "samples: 0", r"p.yaml:14: .*samples must be a whole number"),
        ("provider: scripted", "provider: scriptd", r"p.yaml:4: models.small.provider: .*'scriptd'"),
        ("provider: scripted", "provider: scripted\n    retry: {first_s: 1}", r"p.yaml:5: models.small.retry.first_s: unknown key; known: attempts, initial_backoff_s, max_backoff_s, retry_after_s"),
        ("provider: scripted", "provider: scripted\n    retry: {initial_backof: 1}", r"p.yaml:5: models.small.retry.initial_backof: unknown key; did you mean 'initial_backoff_s'"),
        ("provider: scripted", "provider: scripted\n    breaker: {open_s: 1}", r"p.yaml:5: models.small.breaker.open_s: unknown key; known: min_requests, failure_rate, window_s, cooldown_s"),
        ("provider: scripted", "provider: openai\n    api_key: sk-x", r"p.yaml:5: models.small.api_key: unknown key; did you mean 'api_key_env'"),
        ("provider: scripted", "provider: openai\n    base_url: http://me:pw@host/v1", r"p.yaml:5: models.small.base_url: base_url must not hold"),
        ("version: 1", "version: 2", r"p.yaml:1: version"),
        ("version: 1", "version: [", r"p.yaml:\d+: not valid YAML"),
        ("    answers: [hi]\n", "", r"p.yaml:3: models.small: provider 'scripted' needs 'answers'"),
        ("version: 1", "version: 1\nversion: 1", r"p.yaml:2: the key version occurs twice"),
    ],
)  # fmt: skip
def test_errors(old: str, new: str, error: str) -> None:
    """Each mistake names its line, key and remedy."""
    assert old in GOOD
    with pytest.raises(PolicyError, match=error):
        parse(GOOD.replace(old, new, 1), "p.yaml")


def test_secrets_do_not_appear_in_errors() -> None:
    """A key pasted into the file is not repeated by the error."""
    with pytest.raises(PolicyError) as caught:
        parse(GOOD.replace("provider: scripted", "provider: openai\n    api_key: sk-secret123", 1))
    assert "secret123" not in str(caught.value)


def test_alias_bomb() -> None:
    """Aliases that expand without end are refused quickly."""
    bomb = "a0: &a0 [x]\n" + "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))
    with pytest.raises(PolicyError, match="aliases expand"):
        parse(bomb)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_gives_only_policy_errors(text: str) -> None:
    """Any text is either read or raises PolicyError."""
    with pytest.raises(PolicyError):
        parse(text)


def test_missing_file(tmp_path: Path) -> None:
    """A named file that is not there is an error, not the default."""
    with pytest.raises(PolicyError, match="no such policy file"):
        load(tmp_path / "none.yaml")


def test_the_shipped_schema_is_fresh() -> None:
    """cascade/data/policies.schema.json is what the types say; `make schema` writes it."""
    assert json.loads(POLICY_SCHEMA.read_text()) == json_schema()


def test_the_schema_accepts_the_packaged_policies_and_refuses_a_typo() -> None:
    """Editors agree with the loader."""
    data = yaml.safe_load(packaged().read_text())
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.validate(data)
    data["policies"]["default"]["when_unsur"] = "best"
    assert not validator.is_valid(data)


def test_hash_changes_with_a_threshold() -> None:
    """Two policies that differ in one threshold have different hashes."""
    a, b = parse(GOOD).policies["default"], parse(GOOD.replace("0.5", "0.6")).policies["default"]
    assert a.hash != b.hash
    assert a.hash == parse(GOOD).policies["default"].hash
