"""HTTPS: served by one process and by workers, with certificates of clients, renewed while it runs.

The pair next to this file was made for these tests alone: openssl req -x509 -newkey ec -nodes -subj /CN=localhost ...
"""

import argparse
import os
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx2
import openai
import pytest

from cascade.cli import main
from cascade.errors import CascadeError
from cascade.gateway.serve.tls import TlsFiles, TlsReloader
from tests.cascade.gateway.serve.test_server import FILE, process

CERT, KEY = Path(__file__).with_name("localhost.pem"), Path(__file__).with_name("localhost-key.pem")
ASK = {"model": "default", "messages": [{"role": "user", "content": "What is 17 * 3?"}]}


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    """A policy file."""
    path = tmp_path / "policies.yaml"
    path.write_text(FILE)
    return path


def trusting(*, client_certificate: bool = False) -> ssl.SSLContext:
    """A client's settings: it trusts the certificate, and may show it."""
    context = ssl.create_default_context(cafile=str(CERT))
    if client_certificate:
        context.load_cert_chain(CERT, KEY)
    return context


@pytest.mark.parametrize("workers", [(), ("--workers", "1")], ids=["one process", "a worker"])
def test_openai_client_over_https(policies: Path, workers: tuple[str, ...]) -> None:
    """The address that is printed works with a client that checks the certificate."""
    options = ("--policy-file", str(policies), "--tls-cert", str(CERT), "--tls-key", str(KEY), *workers)
    with process(*options, scheme="https") as (_, url, _):
        http = httpx2.Client(verify=trusting())
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", http_client=http) as client:
            assert client.chat.completions.create(**ASK).choices[0].message.content == "51"  # type: ignore[call-overload]
        with pytest.raises(httpx2.HTTPError):
            httpx2.get(f"{url.replace('https', 'http')}/healthz")


def test_only_clients_with_a_certificate(policies: Path) -> None:
    """Others are refused before they can send a request."""
    with process("--policy-file", str(policies), scheme="https", CASCADE_TLS_CERT=str(CERT), CASCADE_TLS_KEY=str(KEY),
                 CASCADE_TLS_CLIENT_CA=str(CERT)) as (_, url, _):  # fmt: skip
        assert httpx2.get(f"{url}/healthz", verify=trusting(client_certificate=True)).status_code == 200
        with pytest.raises(httpx2.HTTPError):
            httpx2.get(f"{url}/healthz", verify=trusting())


def test_a_renewed_certificate_is_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Into the context in service; a wrong one is named in the log and changes nothing."""
    cert, key = Path(shutil.copy(CERT, tmp_path)), Path(shutil.copy(KEY, tmp_path))
    files = TlsFiles(cert=cert, key=key, client_ca=None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    reloader = TlsReloader(files)
    reloader.check(context)
    assert caplog.records == []
    cert.write_text("half a")
    os.utime(cert, ns=(1, 1))
    reloader.check(context)
    assert "must be a certificate and its own private key" in caplog.text
    caplog.clear()
    shutil.copy(CERT, cert)
    os.utime(cert, ns=(2, 2))
    reloader.check(context)
    reloader.check(context)
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == ["certificate reloaded"]


def _missing(folder: Path) -> list[str]:
    return ["--tls-cert", str(folder / "none.pem")]


def _wrong_key(folder: Path) -> list[str]:
    (folder / "key.pem").write_text("no key")
    return ["--tls-cert", str(CERT), "--tls-key", str(folder / "key.pem")]


def _wrong_authority(folder: Path) -> list[str]:
    (folder / "ca.pem").write_text("none")
    return ["--tls-cert", str(CERT), "--tls-key", str(KEY), "--tls-client-ca", str(folder / "ca.pem")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (_missing, "none.pem: cannot be read (No such file or directory)"),
        (lambda _: ["--tls-cert", str(CERT)], "must be a certificate and its own private key in PEM, without a password"),
        (_wrong_key, "key.pem: must be a certificate and its own private key in PEM"),
        (_wrong_authority, "ca.pem: must be certificates in PEM"),
        (lambda _: ["--tls-key", str(KEY)], "give --tls-cert FILE"),
    ],
)
def test_wrong_files_are_named(
    options: Callable[[Path], list[str]], message: str, policies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The gateway does not start."""
    assert main(["serve", "--policy-file", str(policies), "--port", "0", *options(policies.parent)]) == 2
    assert message in capsys.readouterr().err


def test_without_options_it_is_http() -> None:
    """Neither the options nor the environment name a certificate."""
    assert TlsFiles.of(argparse.Namespace(tls_cert=None, tls_key=None, tls_client_ca=None)) is None
    with pytest.raises(CascadeError, match="--tls-cert"):
        TlsFiles.of(argparse.Namespace(tls_cert=None, tls_key=None, tls_client_ca="x"))
