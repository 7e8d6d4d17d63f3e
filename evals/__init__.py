"""Measures cascades on recorded answers: recordings, grading, replay. A package of cascade-gate, above ``cascade``."""

try:
    from cascade.util.own_packages import check_own
except ModuleNotFoundError as error:
    if error.name != "cascade.util":
        raise
    import sys

    import cascade as _other

    _message = (
        f"evals needs its own package 'cascade', but {_other.__file__} comes first on Python's path. Rename that file or "
        "folder, or use the command `cascade` (or `python -P`), which leaves out the working directory."
    )
    if sys.argv[:1] == ["-m"]:  # Python is looking for the command to run: one line says it all
        print(f"cascade: {_message}", file=sys.stderr)
        raise SystemExit(2) from None
    raise ImportError(_message) from None

check_own("evals")
