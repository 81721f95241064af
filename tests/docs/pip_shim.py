"""Stands in for pip in the tests of the pages: a local folder is installed without building it, all else is there.

The folder's modules are copied to ~/site, which the tests put on PYTHONPATH, beside the metadata that pip would write.
"""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from pathlib import Path


def install(folder: Path, site: Path) -> None:
    """Install the distribution in `folder` into `site`."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    metadata = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for module in folder.glob("*.py"):
        shutil.copy(module, site)


if __name__ == "__main__":
    if sys.argv[1:2] != ["install"]:
        sys.exit("only `pip install` is documented")
    for argument in sys.argv[2:]:
        if argument.startswith((".", "/")):
            install(Path(argument), Path(os.environ["HOME"]) / "site")
