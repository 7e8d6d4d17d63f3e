"""What a person types to run ``cascade`` here, for the commands that other commands print."""

import os
import shutil
import sys
from pathlib import Path


def own_command() -> str:
    """``cascade`` where that is on the path, else the script beside the running Python, such as ``.venv/bin/cascade``."""
    if shutil.which("cascade"):
        return "cascade"
    script = Path(sys.executable).with_name("cascade")
    if not script.is_file():
        return "python -m cascade"
    relative = os.path.relpath(script)
    return str(script) if relative.startswith("..") else relative
