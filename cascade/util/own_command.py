"""What a person types to run ``cascade`` here, for the commands that other commands print."""

import os
import shutil
import sys
from pathlib import Path


def own_command() -> str:
    """``cascade``, or, where that is not on the path, the script of the environment here, such as ``.venv/bin/cascade``."""
    script = Path(sys.executable).with_name("cascade")
    relative = os.path.relpath(script)
    if shutil.which("cascade") or relative.startswith("..") or not script.is_file():
        return "cascade"
    return relative
