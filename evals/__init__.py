"""Measures cascades on recorded answers: recordings, grading, replay. Stands above ``cascade`` and ``judges``."""

try:
    from cascade.util.own_packages import check_own
except ModuleNotFoundError as error:
    if error.name != "cascade.util":
        raise
    import cascade as _other

    raise ImportError(
        f"evals needs its own package 'cascade', but {_other.__file__} comes first on Python's path. Rename that file or "
        "folder, or use the command `cascade` (or `python -P`), which leaves out the working directory."
    ) from None

check_own("evals")
