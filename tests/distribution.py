"""The distribution as if it were installed: its metadata in a folder, and its console script."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def install(folder: Path) -> Path:
    """Writes the metadata that an installer makes of pyproject.toml, and the console script; returns the script.

    With ``folder`` on the path, before another installation's, the entry points are those of this checkout.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = {"console_scripts": project["scripts"], **project["entry-points"]}
    points = (f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in g.items()) for group, g in groups.items())
    (info / "entry_points.txt").write_text("\n".join(points))
    module, _, function = project["scripts"]["cascade"].partition(":")
    script = folder / "bin" / "cascade"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    script.chmod(0o755)
    return script
