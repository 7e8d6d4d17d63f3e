"""Serves a GGUF file as an OpenAI-compatible server: ``python -m evals.demo.starter.serve FILE --name NAME``.

Needs xllamacpp, which brings llama.cpp's server in a wheel. The first line of its output is the server's address.
"""

import argparse
import importlib
import os
import sys
import threading
from collections.abc import Sequence

from cascade.util.extras import sentence


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until it is ended, or until its standard input closes with ``--until-eof``, as it does when a parent dies."""
    parser = argparse.ArgumentParser(prog="python -m evals.demo.starter.serve", description=__doc__)
    parser.add_argument("file", help="the model, a GGUF file")
    parser.add_argument("--name", default="local", help="what the server calls the model")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--slots", type=int, default=8, help="answers made side by side")
    parser.add_argument("--context", type=int, default=1024, help="tokens of prompt and answer in each slot")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input closes")
    args = parser.parse_args(argv)
    # Otherwise threads that wait for each other would spin, and take the cores from the client.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        llama = importlib.import_module("xllamacpp")
    except ImportError:
        print(f"error: {sentence('the demo server', 'xllamacpp')}", file=sys.stderr)
        return 2
    params = llama.CommonParams()
    params.model.path, params.model_alias = args.file, args.name
    params.hostnames, params.port = ["127.0.0.1"], args.port
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = args.threads
    params.n_parallel, params.n_ctx, params.kv_unified = args.slots, args.slots * args.context, False
    params.cpuparams.poll = params.cpuparams_batch.poll = 0
    params.n_gpu_layers, params.warmup = 0, True
    server = llama.Server(params)
    print(server.listening_address, flush=True)
    try:
        if args.until_eof:
            sys.stdin.read()
        else:
            threading.Event().wait()
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
