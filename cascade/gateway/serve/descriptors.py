"""How many files and connections this process may open."""

from contextlib import suppress

_MANY = 65_536


def descriptor_limit() -> int:
    """How many files and connections this process may open."""
    try:
        import resource
    except ModuleNotFoundError:  # not on Windows
        return _MANY
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MANY if soft == resource.RLIM_INFINITY else soft


def raise_descriptor_limit() -> None:
    """Lets this process open as many files and connections as the system allows, up to what is of use."""
    with suppress(ModuleNotFoundError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < _MANY:
            resource.setrlimit(resource.RLIMIT_NOFILE, (_MANY if hard == resource.RLIM_INFINITY else min(_MANY, hard), hard))
