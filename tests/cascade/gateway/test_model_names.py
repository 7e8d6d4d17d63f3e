"""Names that clients have in their code: aliases, and a policy for every name that is unknown."""

from pathlib import Path

import httpx2
import pytest

from cascade.errors import PolicyError
from cascade.gateway.auth.key_file import KeyFile
from cascade.policy import load
from tests.cascade.gateway.conftest import Serve
from tests.wire_server import Reply, WireServer, chat

POLICIES = """
aliases: {{gpt-4o: default, claude-haiku-4-5: default/cheap}}
{more}
models:
  small: {{provider: openai, model: small-1, base_url: "{url}/v1", retry: {{attempts: 1}}}}
policies:
  default: {{tiers: [{{name: cheap, model: small, accept_at: 0.0}}]}}
  other: {{tiers: [{{model: small, accept_at: 0.0}}]}}
"""


def test_an_alias_is_a_policys_name(serve: Serve, upstream: WireServer) -> None:
    """In both interfaces, in the list of models, and in what an error proposes; the run says which policy it was."""
    upstream.reply = Reply(chat("51"))
    gateway = serve(POLICIES.format(url=upstream.base_url, more=""))
    assert gateway.chat(model="gpt-4o").json()["cascade"]["policy"] == "default"
    with gateway.anthropic() as client:
        done = client.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=[{"role": "user", "content": "Hi"}])
        assert done.model_extra["cascade"]["policy"] == "default/cheap"  # type: ignore[index]
        assert {"gpt-4o", "claude-haiku-4-5"} <= {model.id for model in client.models.list()}
    refused = gateway.chat(model="gpt-4")
    assert refused.status_code == 404
    assert "did you mean 'gpt-4o'?" in refused.json()["error"]["message"]


def test_unknown_names_may_have_a_policy(serve: Serve, upstream: WireServer) -> None:
    """Models' names only: the gateway's own routes name policies, where a typing error stays one."""
    upstream.reply = Reply(chat("51"))
    gateway = serve(POLICIES.format(url=upstream.base_url, more="unknown_model: other"))
    names = {
        "gpt-5-mini": "other",
        "default": "default",
        "other": "other",
        "gpt-4o": "default",
        "default/cheap": "default/cheap",
    }
    for name, policy in names.items():
        assert gateway.chat(model=name).json()["cascade"]["policy"] == policy
    for path, body in (("/v1/route", {"prompt": "Hi"}), ("/v1/gate", {"prompt": "Hi", "answer": "Ho"})):
        assert gateway.post(path, {**body, "policy": "othr"}).status_code == 404


def test_a_key_needs_the_aliass_policy(serve: Serve, upstream: WireServer, tmp_path: Path) -> None:
    """An alias opens nothing that the policy's own name does not."""
    upstream.reply = Reply(chat("51"))
    keys = KeyFile(tmp_path / "keys.json")
    secret = keys.create("app", policies=["other"])[1]
    gateway = serve(POLICIES.format(url=upstream.base_url, more=""), key_store=keys)
    headers = {"authorization": f"Bearer {secret}"}
    for name, status in (("gpt-4o", 403), ("other", 200)):
        body = {"model": name, "messages": [{"role": "user", "content": "Hi"}]}
        assert gateway.post("/v1/chat/completions", body, headers=headers).status_code == status
    models = httpx2.get(f"{gateway.url}/v1/models", headers=headers).json()["data"]
    assert "gpt-4o" not in {model["id"] for model in models}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("aliases: {gpt-4o: defualt}", "did you mean 'default'"),
        ("aliases: {default: other}", "a policy or a tier has this name already"),
        ("unknown_model: nowhere", "unknown_model: 'error', or a policy"),
    ],
)
def test_names_are_checked_with_the_file(more: str, message: str) -> None:
    """As every other reference in it."""
    text = POLICIES.format(url="http://127.0.0.1:1", more="").replace(
        "aliases: {gpt-4o: default, claude-haiku-4-5: default/cheap}", more
    )
    with pytest.raises(PolicyError, match=message):
        load.parse(text)
