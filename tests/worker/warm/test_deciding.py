"""Which commands run warm on a terminal: those that read nothing from it, where it is sure that no one is asked."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click
import pytest

from afkcli.command_group import cli
from afkcli.worker import deciding, wire
from afkcli.worker.caller import Caller
from tests.worker.warm.conftest import until

TOOLS = '[agents.default]\ntools = ["files.*"]\n'
RULES = TOOLS + '[[approvals.rules]]\ntool = "*"\ndecision = "allow"\n'
ESCAPED = '[agents.default]\n"\\u0074ools" = ["files.*"]\n'
ASKED = TOOLS + '[approvals]\nmode = "ask"\n'
KEY = '[plugins.provider.openai]\napi_key_command = ["pass", "show", "openai"]\n'
STORE_KEY = '[plugins.store.postgres]\ndsn_command = ["pass", "show", "postgres"]\n'

STREAMS = {"all": (True, True, True), "but stderr": (True, True, False), "but stdin": (False, True, True)}
"""Which of stdin, stdout and stderr are the terminal."""
_PROGRAM = "import fcntl, signal, termios; fcntl.ioctl(1, termios.TIOCSCTTY, 0); signal.pause()"

Decided = Callable[..., bool]


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, int]]:
    """Processes in the foreground of a terminal, by which of their streams are the terminal."""
    processes, terminals = {}, []
    for name, there in STREAMS.items():
        main, side = pty.openpty()
        terminals += [main, side]
        processes[name] = subprocess.Popen(
            [sys.executable, "-ISc", _PROGRAM],
            cwd=tmp_path_factory.mktemp("work"),
            stdin=side if there[0] else subprocess.DEVNULL,
            stdout=side,
            stderr=side if there[2] else subprocess.DEVNULL,
            start_new_session=True,
        )
    for process in processes.values():
        until(lambda pid=process.pid: Caller(pid).has_terminal, "a process with a terminal")  # type: ignore[misc]
    yield {name: process.pid for name, process in processes.items()}
    for process in processes.values():
        process.kill()
        process.wait()
    for descriptor in terminals:
        os.close(descriptor)


@pytest.fixture
def runs_warm(callers: Mapping[str, int], tmp_path: Path) -> Decided:
    """What says whether a command line runs warm: `runs_warm("run hi", "all", user="...", AFK_APPROVALS="deny")`."""

    def decide(line: str, terminal: str, *, user: str = "", project: str = "", **environment: str) -> bool:
        caller = Caller(callers[terminal])
        config = tmp_path / "config" / "config.toml"
        config.parent.mkdir()
        config.write_text(user)
        Path(f"/proc/{caller.pid}/cwd", "afk.toml").write_text(project)
        words, variables = line.split(), {"AFK_HOME": str(tmp_path), **environment}
        order = wire.Order(pid=caller.pid, flags=7, umask=0, ignored=0, blocked=0, arguments=[], environment={})
        found = deciding._of_command(words, order) or deciding._of_terminal(words, order, caller, variables)
        return found is None

    return decide


@pytest.mark.parametrize(
    ("line", "terminal", "config", "environment"),
    [
        ("run hi", "all", "", {}),
        ("run -q hi", "all", 'model = "openai/gpt-5.2"\n', {}),
        ("run hi", "but stderr", TOOLS, {}),
        ("run hi", "but stderr", RULES, {}),
        ("run --tool files.read hi", "but stderr", "", {}),
        ("run -p review", "but stderr", "", {}),
        ("run --approvals deny hi", "all", TOOLS, {}),
        ("run hi --approvals=deny", "all", ASKED, {}),
        ("run hi", "all", TOOLS, {"AFK_APPROVALS": "deny"}),
        ("run --approvals stdin --json hi", "but stdin", TOOLS, {}),
        ("run -", "but stdin", "", {}),
        ("run --attach=- hi", "but stdin", "", {}),
        ("threads", "all", TOOLS, {}),
        ("threads -n 1", "all", "", {}),
        ("threads --search Rome", "all", "", {}),
        ("threads show trip", "all", "", {}),
        ("batch list", "all", TOOLS, {}),
        ("threads", "all", KEY, {}),
        ("threads --all", "but stdin", "", {}),
        ("usage", "all", KEY, {}),
        ("models", "all", TOOLS, {}),
    ],
)
def test_what_asks_no_one_runs_warm(
    runs_warm: Decided, line: str, terminal: str, config: str, environment: dict[str, str]
) -> None:
    assert runs_warm(line, terminal, user=config, **environment)


@pytest.mark.parametrize(
    ("line", "terminal", "config", "environment"),
    [
        ("run hi", "all", TOOLS, {}),
        ("run hi", "but stdin", TOOLS, {}),
        ("run hi", "all", RULES, {}),
        ("run hi", "all", ESCAPED, {}),
        ("run --tool files.read hi", "all", "", {}),
        ("run --tool=files.read hi", "all", "", {}),
        ("run -p review", "all", "", {}),
        ("run -qp review", "all", "", {}),
        ("run --prompt=review", "all", "", {}),
        ("run hi", "but stderr", ASKED, {}),
        ("run hi", "but stderr", TOOLS, {"AFK_APPROVALS": "ask"}),
        ("run hi", "all", TOOLS, {"AFK_APPROVALS": "DENY"}),
        ("run --approvals deny --approvals ask hi", "but stderr", TOOLS, {}),
        ("run --approvals deny --approvals deny hi", "all", TOOLS, {}),
        ("run -s --approvals deny hi", "all", TOOLS, {}),
        ("run -- --approvals deny", "all", TOOLS, {}),
        ("run --approvals stdin --json hi", "all", "", {}),
        ("run --approvals=stdin --json hi", "but stderr", TOOLS, {}),
        ("run -", "all", "", {}),
        ("run --attach - hi", "but stderr", "", {}),
        ("run --attach=- hi", "all", "", {}),
        ("replay -", "all", "", {}),
        ("threads --all", "all", "", {}),
        ("run hi", "all", KEY, {}),
        ("run hi", "but stderr", KEY, {}),
        ("models", "all", KEY, {}),
        ("doctor", "but stdin", KEY, {}),
        ("threads", "all", STORE_KEY, {}),
        ("threads rm x", "all", "", {}),
        ("threads --tag x rm", "all", "", {}),
        ("prompts edit x", "all", "", {}),
        ("batch run x", "all", "", {}),
        ("of-a-plugin", "all", "", {}),
        ("keys set openai", "all", "", {}),
    ],
)
def test_where_someone_may_be_asked_a_command_runs_cold(
    runs_warm: Decided, line: str, terminal: str, config: str, environment: dict[str, str]
) -> None:
    assert not runs_warm(line, terminal, user=config, **environment)


@pytest.mark.parametrize("name", deciding.MAY_READ_TERMINAL)
def test_each_command_of_a_group_is_known(name: str) -> None:
    with click.Context(cli) as context:
        group = cli.get_command(context, name)
        assert isinstance(group, click.Group)
        found = group.list_commands(context)

    assert {*found} <= {*deciding.READS_NO_TERMINAL[name], *deciding.MAY_READ_TERMINAL[name]}


@pytest.mark.parametrize("config", [TOOLS, KEY])
def test_the_projects_config_counts_too(runs_warm: Decided, config: str) -> None:
    assert not runs_warm("run hi", "all", project=config)


def test_a_config_that_cannot_be_read_keeps_a_run_cold(runs_warm: Decided, tmp_path: Path) -> None:
    (tmp_path / "odd" / "config" / "config.toml").mkdir(parents=True)

    assert not runs_warm("run hi", "all", AFK_HOME=str(tmp_path / "odd"))
