"""The commands that evals adds to ``cascade``, by the entry point group ``cascade.commands``.

Through an entry point, because evals stands above cascade: cascade may not import it, and works without it.
"""

from cascade.util.commands import Command

_EVALUATE = "measure, tune and certify"

COMMANDS = (
    Command(
        name="record",
        group=_EVALUATE,
        summary="ask every tier about every example of a dataset, and record the answers",
        target="evals.record.command:main",
        parser="evals.record.arguments:parser",
    ),
    Command(
        name="grade",
        group=_EVALUATE,
        summary="grade the answers of a recording",
        target="evals.grade.command:main",
        parser="evals.grade.arguments:parser",
    ),
    Command(
        name="replay",
        group=_EVALUATE,
        summary="calibrate, tune and certify a policy on a recording",
        target="evals.replay.command:main",
        parser="evals.replay.arguments:parser",
    ),
    Command(
        name="recording",
        group=_EVALUATE,
        summary="show, merge, split, sample recordings; import other tools' logs",
        target="evals.recording.command:main",
    ),
    Command(
        name="grade-shadows",
        group=_EVALUATE,
        summary="grade the answers of shadow requests, to see how much quality is lost",
        target="evals.audit.grade_shadows:main",
        service="evals.audit.grading.at_once:open_grader",
    ),
    Command(
        name="audit",
        group=_EVALUATE,
        summary="report where runs went, cost and savings, whether promises hold, what to change",
        target="evals.audit.audit:main",
    ),
    Command(
        name="demo",
        group=_EVALUATE,
        summary="run a cascade live, with a small model on this machine as the cheap tier",
        target="evals.demo.demo:main",
        parser="evals.demo.arguments:parser",
    ),
)
