"""A folder with a dataset and a policy, and the record command on both."""

import json
from pathlib import Path
from typing import Any

from evals.record.command import main
from evals.recording import read
from tests.evals.record.provider import IN_USD, OUT_USD, TOKENS_IN, TOKENS_OUT

ONE_USD = IN_USD * TOKENS_IN + OUT_USD * TOKENS_OUT


class Desk:
    """A folder with a dataset and a policy, and the command on both."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.out, self.work = folder / "rec.jsonl", folder / "rec.jsonl.work"
        self.policy(small={}, large={})
        self.rows(10)

    def policy(self, judges: Any = (), **models: dict[str, Any]) -> None:
        """Models of the provider, OpenAI's unless said otherwise, and a ladder of them all."""
        price = {"input_per_mtok": IN_USD * 1e6, "output_per_mtok": OUT_USD * 1e6}
        entries = {}
        for name, more in models.items():
            path = "" if more.get("provider") == "anthropic" else "/v1"
            common = {"provider": "openai", "base_url": self.url + path, "price": price, "max_tokens": 20}
            entries[name] = {k: v for k, v in {**common, **more}.items() if v is not None}
        tiers = [{"model": name, "judges": list(judges)} for name in models]
        text = json.dumps({"version": 1, "models": entries, "policies": {"default": {"tiers": tiers}}})
        (self.folder / "policy.yaml").write_text(text)

    def rows(self, n: int, **more: Any) -> None:
        """A dataset of ``n`` rows."""
        rows = [{"id": f"r{i}", "prompt": f"question {i}?", **more} for i in range(n)]
        (self.folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))

    def argv(self, *more: Any) -> list[str]:
        """The command's arguments."""
        common = [self.folder / "rows.jsonl", "--policy", self.folder / "policy.yaml", "--out", self.out]
        return [str(a) for a in (*common, *more)]

    def record(self, *more: Any) -> int:
        """Runs the command here; its exit status."""
        return main(self.argv(*more))

    def answers(self, model: str) -> list[dict[str, Any]]:
        """What the recording holds of a model."""
        return [dict(e.answers[model]) for e in read(self.out) if model in e.answers]
