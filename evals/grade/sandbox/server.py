"""Forks a launcher for each answer, so that Python starts once and not each time.

Standard input is a socket. Each byte on it comes with two file descriptors: the launcher's standard input and output. This
process reads neither, so that its memory has no program and no test that a later answer could search. It ends when the
socket is closed.
"""

import gc
import os
import signal
import socket
from typing import NoReturn

from . import launcher, namespaces


def main() -> NoReturn:
    """Serves until the client closes the connection."""
    requests = socket.socket(fileno=os.dup(0))
    namespaces.own_installation()  # cached for all launchers
    gc.freeze()  # so that no collection in a child copies what it shares
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the launchers
    while True:
        word, files, _, _ = socket.recv_fds(requests, 1, 2)
        if not word:
            os._exit(0)
        if os.fork() == 0:
            try:
                requests.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for number, file in enumerate(files):
                    os.dup2(file, number)
                os.closerange(3, max(files) + 1)
                launcher.main()
            finally:
                os._exit(1)
        for file in files:
            os.close(file)


if __name__ == "__main__":
    main()
