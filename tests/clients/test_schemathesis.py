"""schemathesis over the gateway's OpenAPI document: whatever it sends, no 5xx and no undocumented answer."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cascade.gateway.conftest import Serve

pytestmark = pytest.mark.clients

pytest.importorskip("schemathesis", reason="schemathesis is not installed: make test-clients")

POLICIES = """
journal: {{url: "sqlite:///{folder}/journal.db"}}
models: {{m: {{provider: scripted, answers: ["51"], price: {{input_per_mtok: 1, output_per_mtok: 1}}}}}}
policies: {{default: {{tiers: [{{name: cheap, model: m, accept_at: 0.0, judges: [schema, rules]}}]}}}}
"""
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance"
)


def test_nothing_undocumented(serve: Serve, tmp_path: Path) -> None:
    """Examples, edge cases and made-up bodies for every route of our own, but for the stream that never ends."""
    gateway = serve(POLICIES.format(folder=tmp_path))
    arguments = (
        *("run", f"{gateway.url}/openapi.json", "--checks", CHECKS, "--phases", "examples,coverage,fuzzing"),
        *("--exclude-path", "/dashboard/events", "--max-examples", "60", "--seed", "1", "--no-color"),
    )
    script = "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())"
    fuzzer = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert fuzzer.returncode == 0, fuzzer.stdout[-6000:] + fuzzer.stderr[-2000:]
    assert "No issues found" in fuzzer.stdout
