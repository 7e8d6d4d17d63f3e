"""Runs a program and its tests in two sandboxed processes that exchange only data.

``client`` asks ``server`` for a ``launcher``, a process for one answer. It builds the walls (``namespaces``, ``landlock``,
``seccomp``) twice: around the process that runs the program (``candidate``) and around the one that runs the tests
(``checker``). The two talk over a pair of pipes (``rpc``) in a format that can carry values but no code (``wire``); in the
tests a function or an object of the program is a proxy (``proxies``). The checker decides the verdict, and the
program can influence it only by the values that it returns.

Nothing here imports the rest of the package: the server needs the standard library alone.
"""
