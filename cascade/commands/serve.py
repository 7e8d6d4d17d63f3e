"""``cascade serve``: starts the gateway."""

import argparse

from cascade.util.extras import needed_by

from .ask import POLICY_FILE_HELP


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 256:
        raise argparse.ArgumentTypeError("must be from 1 to 256")
    return number


def add_serve(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``serve``."""
    parser.add_argument("--policy-file", help=POLICY_FILE_HELP)
    parser.add_argument("--host", help="the address to listen on (default: CASCADE_HOST, else 127.0.0.1)")
    parser.add_argument("--port", type=int, help="0 picks a free port (default: CASCADE_PORT, else 8000)")
    parser.add_argument("--keys", metavar="FILE", help="the key file (default: next to the policy file), or 'journal'")
    parser.add_argument("--require-keys", action="store_true", help="refuse to start without an API key")
    for option, variable, what in (
        ("--tls-cert", "CASCADE_TLS_CERT", "a certificate in PEM: serve HTTPS"),
        ("--tls-key", "CASCADE_TLS_KEY", "its private key, where it is in another file"),
        ("--tls-client-ca", "CASCADE_TLS_CLIENT_CA", "accept only clients with a certificate of these authorities"),
    ):
        parser.add_argument(option, metavar="FILE", help=f"{what} (default: {variable})")
    parser.add_argument(
        "--fd",
        type=int,
        metavar="N",
        action="append",
        help="a listening socket that the parent process opened, in place of --host and --port; repeat for more",
    )
    parser.add_argument("--stop-on-eof", action="store_true", help="stop when standard input ends: when the parent dies")
    parser.add_argument(
        "--workers",
        type=_count,
        metavar="N",
        help="processes that serve the port together (default: CASCADE_WORKERS, else this one)",
    )
    from cascade.gateway.serve.log_format import add_to

    add_to(parser)
    parser.set_defaults(command=_serve)


def _serve(args: argparse.Namespace) -> int:
    with needed_by("serve", "gateway"):
        from cascade.gateway.serve.server import run
    return run(args)
