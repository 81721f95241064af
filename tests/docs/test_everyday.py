"""docs/how-to/everyday.md: each task works, with as many steps as its table says, and no more than elsewhere.

`test_documented_commands.py` runs the page. Here is what a page cannot run by itself: cron, a chat, a key that is
typed, a process that is killed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from afkcli.testing.model_script import Step
from afkcli.testing.model_server import ModelServer
from tests.docs.pages import REPOSITORY, Block, blocks
from tests.e2e.shell import AFK, LIMIT, Shell, kill, wait_for_output
from tests.terminal import Terminal

PAGE = REPOSITORY / "docs" / "how-to" / "everyday.md"
ROW = re.compile(r"^\| (\d+)\. [^|]+ \| (\d) \| ([\d-]) \| ([\d-]) \|", re.MULTILINE)
TASKS = 25
CONFIG = """\
model = "openai/gpt-5.2-mini"

[providers.openai]
base_url = "{url}"

[prices."openai/gpt-5.2-mini"]
input = 0.25
output = 2.0
"""


def task_blocks() -> dict[int, list[Block]]:
    """Return the blocks of each task, by its number."""
    headings = {
        number + 1: int(found[1])
        for number, line in enumerate(PAGE.read_text(encoding="utf-8").splitlines())
        if (found := re.match(r"## (\d+)\. ", line))
    }
    found: dict[int, list[Block]] = {task: [] for task in headings.values()}
    for block in blocks(PAGE):
        above = [task for line, task in headings.items() if line < block.line]
        if above:
            found[above[-1]].append(block)
    return found


def steps(block: Block) -> int:
    """Return what a reader does for a block: writes one file, or types each of its commands."""
    if block.language != "sh":
        return 1
    return len(block.text.replace("\\\n", "").strip().splitlines())


def command_of(task: int) -> str:
    """Return the command of a task that is one line."""
    [block] = [block for block in task_blocks()[task] if block.language == "sh"]
    [line] = block.text.splitlines()
    return line


def table() -> dict[int, tuple[int, list[int]]]:
    """Return the steps of each task: with afk, and with the programs that can do it."""
    return {
        int(task): (int(ours), [int(other) for other in others if other != "-"])
        for task, ours, *others in ROW.findall(PAGE.read_text(encoding="utf-8"))
    }


class TestSteps:
    def test_every_task_has_a_row(self) -> None:
        assert list(task_blocks()) == list(table()) == list(range(1, TASKS + 1))

    @pytest.mark.parametrize("task", range(1, TASKS + 1))
    def test_the_row_says_how_many_steps_the_page_takes(self, task: int) -> None:
        assert sum(steps(block) for block in task_blocks()[task]) == table()[task][0]

    @pytest.mark.parametrize("task", range(1, TASKS + 1))
    def test_no_task_takes_more_steps_than_elsewhere(self, task: int) -> None:
        ours, others = table()[task]

        assert ours <= min(others, default=ours)


@pytest.fixture
def installed(tmp_path: Path, server: ModelServer) -> dict[str, str]:
    """The environment in which cron starts commands, with afk installed for its user and configured."""
    home = tmp_path / "home"
    (home / ".local" / "bin").mkdir(parents=True)
    (home / ".local" / "bin" / "afk").symlink_to(AFK)
    (home / ".config" / "afk").mkdir(parents=True)
    config = home / ".config" / "afk" / "config.toml"
    config.write_text(CONFIG.format(url=server.base_url))
    return {"HOME": str(home), "LOGNAME": "reader", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}


@pytest.fixture
def server() -> ModelServer:
    with ModelServer() as model_server:
        yield model_server


def set_key(environment: dict[str, str]) -> None:
    """Store the key as task 13 says, with the key on stdin, as from a password manager."""
    command = command_of(13).replace("afk", "~/.local/bin/afk", 1)
    done = subprocess.run(
        ["/bin/sh", "-c", command], env=environment, input=b"sk-typed-0123456789\n", capture_output=True, timeout=LIMIT
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"sk-typed" not in done.stdout + done.stderr


@pytest.mark.parametrize(("task", "written"), [(18, "mornings.txt"), (25, "alerts.txt")])
def test_a_line_of_crontab_appends_an_answer(
    task: int, written: str, installed: dict[str, str], server: ModelServer
) -> None:
    set_key(installed)
    command = command_of(task).split(maxsplit=5)[5]

    for _ in range(2):
        subprocess.run(["/bin/sh", "-c", command], cwd=installed["HOME"], env=installed, timeout=LIMIT, check=True)

    answers = (Path(installed["HOME"]) / written).read_text().splitlines()
    assert [answer.partition(":")[0] for answer in answers] == ["reply 1", "reply 2"]
    assert len(server.bodies[1]["messages"]) == 3  # the thread has the first turn
    assert server.requests[0].headers["authorization"] == "Bearer sk-typed-0123456789"


def test_the_budget_of_a_schedule_cuts_a_run(installed: dict[str, str], server: ModelServer) -> None:
    set_key(installed)
    server.script(Step(text="word " * 10, repeat=20_000))
    command = command_of(25).split(maxsplit=5)[5]

    done = subprocess.run(["/bin/sh", "-c", command], cwd=installed["HOME"], env=installed, timeout=LIMIT)

    assert done.returncode == 3


def test_a_killed_run_is_resumed(tmp_path: Path, server: ModelServer) -> None:
    (tmp_path / "work").mkdir()
    variables = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-x", "AFK_MODEL": "gpt-5.2-mini"}
    shell = Shell(home=tmp_path, folder=tmp_path / "work", env=variables)
    server.script(Step(text="leeks ", repeat=1000, delay_between=0.05))
    running = shell.start("run", "-n", "-t", "garden", "Where do leeks grow?", stdout=subprocess.PIPE)
    wait_for_output(running, b"leeks leeks")
    shell.wait_until_kept("garden", "leeks leeks")
    kill(running)
    server.script(Step(text="in deep soil."))

    done = shell.afk(*command_of(21).split()[1:])

    assert (done.code, done.out) == (0, "in deep soil.\n"), done.err
    assert "leeks leeks " in str(server.bodies[1]["messages"])


@pytest.mark.skipif(shutil.which("tmux") is None, reason="a chat needs a terminal: tmux")
def test_a_chat_continues_the_thread(tmp_path: Path, server: ModelServer) -> None:
    (tmp_path / "work").mkdir()
    variables = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-x", "AFK_MODEL": "gpt-5.2-mini"}
    shell = Shell(home=tmp_path, folder=tmp_path / "work", env=variables)
    assert shell.afk("run", "-n", "-t", "garden", "Where do leeks grow?").code == 0

    arguments = command_of(20).split()[1:]
    with Terminal([AFK, *arguments], environment=shell.environment(), folder=shell.folder) as terminal:
        terminal.wait_for("garden")
        terminal.type("And chard?\n")
        terminal.wait_until(lambda: "\n>" in terminal.screen().partition("reply 2: And chard?")[2], "next prompt")
        terminal.key("C-d")
        assert terminal.wait_for_end() == 0

    assert len(server.bodies[1]["messages"]) == 3
