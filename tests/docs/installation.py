"""Runs the documented commands that install afk: `python -m tests.docs.installation FOLDER`, from `.ci/install`.

Each page has a home folder and a copy of the repository of its own below FOLDER, as after a fresh clone, with the
wheels that `.ci/build` makes in `dist`. A scripted server is the model. Afterwards, `afk` has to answer.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from afkcli.testing.model_server import ModelServer
from tests.docs.pages import REPOSITORY, Block, blocks

PAGES = ("README.md", "docs/how-to/install.md")
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


def run_block(block: Block, folder: Path, environment: dict[str, str]) -> None:
    """Run a block in a shell, and see that afk answers; `SystemExit` with its line if not."""
    print(f"{block.place}:\n{block.text}", flush=True)
    # Each installs its own copy where a shell finds it, or in an environment that the block names.
    check = '"$(ls ~/.local/bin/afk ~/.venv*/bin/afk 2>/dev/null | head -n 1)" run -n -t installed "Hello"'
    script = f"set -eo pipefail\n{block.text}\n{check}\n"
    if subprocess.run(["bash", "-c", script], cwd=folder, env=environment).returncode != 0:
        sys.exit(f"{block.place}: the commands do not install afk")


def main(arguments: Sequence[str]) -> None:
    """Run the blocks of both pages below the folder that is the argument."""
    work = Path(arguments[0]).resolve()
    subprocess.run([REPOSITORY / ".ci" / "build", work / "dist"], check=True)
    # What reaches the registry (certificates, proxies, mirrors) is the machine's; what afk reads is not.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AFK_", "VIRTUAL_ENV"))}
    cache = subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    with ModelServer() as server:
        for page in PAGES:
            home, clone = work / Path(page).stem / "home", work / Path(page).stem / "clone"
            copy_repository(clone)
            home.mkdir(parents=True)
            (clone / "dist").symlink_to(work / "dist")
            subprocess.run([sys.executable, "-m", "venv", home / ".venv"], check=True)
            environment = kept | {
                "HOME": str(home),
                "PATH": os.pathsep.join([str(home / ".venv" / "bin"), os.environ["PATH"]]),
                "UV_CACHE_DIR": cache,
                "OPENAI_BASE_URL": server.base_url,
                "OPENAI_API_KEY": "sk-documented-0123456789",
            }
            subprocess.run([home / ".venv" / "bin" / "pip", "install", "-q", "pipx"], env=environment, check=True)
            for block in blocks(REPOSITORY / page):
                if block.mark("run by") == RUN_BY:
                    run_block(block, clone, environment)


if __name__ == "__main__":
    main(sys.argv[1:])
