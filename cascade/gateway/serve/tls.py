"""TLS of the server: a certificate and its key from files, which may be replaced while the gateway runs."""

import argparse
import logging
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.errors import CascadeError

log = logging.getLogger("cascade.gateway")

_CERT, _KEY, _CLIENT_CA = "CASCADE_TLS_CERT", "CASCADE_TLS_KEY", "CASCADE_TLS_CLIENT_CA"
_Stamp = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The files, all in PEM.

    Attributes:
        cert: The certificate, followed by those between it and its authority.
        key: Its private key, without a password; None: in the same file.
        client_ca: The authorities that must have signed a client's certificate; None: clients need none.
    """

    cert: Path
    key: Path | None
    client_ca: Path | None

    @classmethod
    def of(cls, args: argparse.Namespace) -> "TlsFiles | None":
        """The files that the options of ``cascade serve`` or the environment name; None: plain HTTP.

        Raises:
            CascadeError: A key or authorities without a certificate, or files that cannot be used.
        """
        cert, key, client_ca = (
            getattr(args, name, None) or os.environ.get(variable) or None
            for name, variable in (("tls_cert", _CERT), ("tls_key", _KEY), ("tls_client_ca", _CLIENT_CA))
        )
        if cert is None:
            if key or client_ca:
                raise CascadeError("--tls-key and --tls-client-ca need a certificate: give --tls-cert FILE")
            return None
        files = cls(cert=Path(cert), key=Path(key) if key else None, client_ca=Path(client_ca) if client_ca else None)
        files.load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        return files

    @property
    def settings(self) -> Mapping[str, Any]:
        """uvicorn's settings."""
        return {
            "ssl_certfile": str(self.cert),
            "ssl_keyfile": None if self.key is None else str(self.key),
            "ssl_ca_certs": None if self.client_ca is None else str(self.client_ca),
            "ssl_cert_reqs": ssl.CERT_NONE if self.client_ca is None else ssl.CERT_REQUIRED,
        }

    def load(self, context: ssl.SSLContext) -> None:
        """Loads the files into a context; open connections keep their certificate. Raises CascadeError."""
        for path in (self.cert, self.key, self.client_ca):
            try:
                if path is not None:
                    path.open("rb").close()
            except OSError as error:
                raise CascadeError(f"{path}: cannot be read ({error.strerror})") from None
        try:
            # An empty password, so that a key with a password is an error instead of a question on the terminal.
            context.load_cert_chain(self.cert, self.key, password="")
        except (ssl.SSLError, ValueError):
            key = "" if self.key is None else f" and {self.key}"
            raise CascadeError(
                f"{self.cert}{key}: must be a certificate and its own private key in PEM, without a password"
            ) from None
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except ssl.SSLError:
                raise CascadeError(f"{self.client_ca}: must be certificates in PEM") from None

    def stamp(self) -> _Stamp | None:
        """Differs when a file was replaced; None while one is missing."""
        try:
            stats = [path.stat() for path in (self.cert, self.key) if path is not None]
        except OSError:
            return None
        return tuple((stat.st_mtime_ns, stat.st_ino) for stat in stats)


class TlsReloader:
    """Loads a renewed certificate into the context in service; a wrong one changes nothing.

    Args:
        files: The files.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files, self._stamp = files, files.stamp()

    def check(self, context: ssl.SSLContext) -> None:
        """Loads the files if they have changed."""
        stamp = self._files.stamp()
        if stamp is None or stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._files.load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # a half-written pair must not get into service
            self._files.load(context)
        except CascadeError as error:
            log.error("certificate not reloaded, the previous one stays in service: %s", error)
        else:
            log.warning("%s: certificate reloaded", self._files.cert)
