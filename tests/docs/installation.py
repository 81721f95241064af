"""Runs the documented commands that install afk: `python -m tests.docs.installation FOLDER DIST`, from `.ci/install`.

Each block has a new home folder. It runs in a copy of the repository below FOLDER, as after a fresh clone, with the
wheels that `.ci/build` made in DIST as its `dist`. A scripted server is the model. Afterwards, `afk` has to answer.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from afkcli.testing.model_server import ModelServer
from tests.docs.pages import REPOSITORY, Block, blocks

PAGES = ("README.md", "docs/how-to/install.md", "docs/plugins/publish.md")
RUN_BY = ".ci/install"


def copy_repository(folder: Path) -> None:
    """Copy what git knows of the repository."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True)
    folder.mkdir(parents=True)
    names = listed.stdout.decode().split("\0")
    existing = "\0".join(name for name in names if name and (REPOSITORY / name).exists())
    pack = ["tar", "-cf", "-", "--null", "-T", "-"]
    packed = subprocess.run(pack, cwd=REPOSITORY, input=existing.encode(), stdout=subprocess.PIPE, check=True)
    subprocess.run(["tar", "-xf", "-", "-C", str(folder)], input=packed.stdout, check=True)


def run_block(block: Block, home: Path, clone: Path, environment: dict[str, str]) -> None:
    """Run a block in a shell, and see that each afk that it installed answers; `SystemExit` with its line if not."""
    print(f"{block.place}:\n{block.text}", flush=True)
    done = subprocess.run(["bash", "-c", f"set -eo pipefail\n{block.text}"], cwd=clone, env=environment)
    installed = [path for path in (*home.glob(".local/bin/afk"), *home.glob(".venv*/bin/afk")) if path.exists()]
    asked = [subprocess.run([path, "run", "-n", "-t", "t", "Hello"], cwd=home, env=environment) for path in installed]
    if done.returncode or not asked or any(each.returncode for each in asked):
        sys.exit(f"{block.place}: the commands do not install afk")


def environment_of(home: Path, programs: Path, server: ModelServer) -> dict[str, str]:
    """Make a home folder with pip, pipx and uv, kept in `programs` from home to home; return the variables of its user.

    What pip has downloaded is kept too, and it compiles no modules: that takes longer than all else that it does.
    """
    # What reaches the registry (certificates, proxies, mirrors) is the machine's; what afk reads is not.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AFK_", "VIRTUAL_ENV"))}
    cache = subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    environment = kept | {
        "HOME": str(home),
        "PATH": os.pathsep.join([str(home / ".venv" / "bin"), os.environ["PATH"]]),
        "UV_CACHE_DIR": cache,
        "PIP_CACHE_DIR": str(programs.with_name("pip-cache")),
        "PIP_NO_COMPILE": "1",
        "OPENAI_BASE_URL": server.base_url,
        "OPENAI_API_KEY": "sk-documented-0123456789",
    }
    home.mkdir()
    if not programs.exists():
        subprocess.run([sys.executable, "-m", "venv", home / ".venv"], check=True)
        pip = home / ".venv" / "bin" / "pip"
        subprocess.run([pip, "install", "-q", "uv", "pipx"], env=environment, check=True)
        shutil.move(home / ".venv", programs)
    shutil.copytree(programs, home / ".venv", symlinks=True)  # its scripts name this path
    return environment


def main(arguments: Sequence[str]) -> None:
    """Run the blocks of the pages below the first argument, with the wheels in the second."""
    work, dist = (Path(argument).resolve() for argument in arguments)
    clone, home, programs = work / "clone", work / "home", work / "programs"
    copy_repository(clone)
    (clone / "dist").symlink_to(dist)
    for block in blocks(REPOSITORY / "docs" / "plugins" / "publish.md"):
        if name := block.mark("file"):
            (clone / name).parent.mkdir(exist_ok=True)
            (clone / name).write_text(block.text)
    named = [block for page in PAGES for block in blocks(REPOSITORY / page) if block.mark("run by") == RUN_BY]
    with ModelServer() as server:
        for block in named:
            run_block(block, home, clone, environment_of(home, programs, server))
            shutil.rmtree(home)  # each takes some hundred megabytes


if __name__ == "__main__":
    main(sys.argv[1:])
