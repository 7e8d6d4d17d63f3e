"""What all tests share."""

import signal

from hypothesis import settings

# Examples are judged by what they find, not by how busy the machine is.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# A shell ignores Ctrl-C for what it runs in the background, and every child would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
