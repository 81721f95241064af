"""What only reads answers the same warm as cold, byte for byte: on pipes, and on a terminal."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Iterator

import pytest

from afkcli.testing.model_server import ModelServer
from tests.e2e.attended import attended_terminal
from tests.e2e.shell import AFK, LIMIT, Finished
from tests.e2e.warm import start
from tests.worker.warm.conftest import WarmShell, warm_shell

CONFIG = """\
[agents.reviewer]
instructions = "Review it."
model = "openai/gpt-5.2-mini"

[prices."openai/gpt-5.2-mini"]
input = 1.0
output = 2.0
"""
PROMPT = "---\ndescription: a review\n---\nReview this in {{lang}}.\n"

ON_BOTH = """\
--help
--version
threads
threads --json
threads -n 1
threads --search Rome
threads --tag travel
threads --since 1d
threads show trip
threads search Rome
threads export trip
threads show no-such-thread
usage
events tail
replay LOG
models
agents
agents show reviewer
tools
config show
prompts
prompts show review
batch list
batch status no-such-batch
run -n --dry-run hi
run -n -m no-such-provider/x hi
"""
ON_PIPES = """\
run --help
threads export --help
threads --here --json
threads --no-such-option
threads show trip --json
threads search Rome --json
usage --json
events schema
events tail --json
models --json
agents --json
config path
prompts list --json
prompts show review --var lang=de
batch list --json
batch results no-such-batch
batch --help
doctor
no-such-command
"""
"""What looks the same on a terminal, and what runs cold there: it could be of a plugin."""
COLD = """\
plugins
completion bash
worker --help
"""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, server: ModelServer) -> Iterator[WarmShell]:
    """A shell with a config, a prompt, threads and a log; all tests share its worker."""
    for shell in warm_shell(tmp_path_factory.mktemp("warm"), server):
        config = shell.home / "afk" / "config"
        (config / "prompts").mkdir(parents=True)
        (config / "config.toml").write_text(CONFIG)
        (config / "prompts" / "review.md").write_text(PROMPT)
        for words in (["-t", "trip", "Where is Rome?"], ["-t", "trip", "And Milan?"], ["-t", "other", "Hello"]):
            assert shell.afk("run", "-n", "-q", *words).code == 0
        assert shell.afk("threads", "tag", "trip", "travel").code == 0
        shell.warm_up()
        yield shell


def on_pipes(shell: WarmShell, words: list[str], **env: str) -> Finished:
    return shell.afk(*words, **env)


def on_terminal(shell: WarmShell, words: list[str], **env: str) -> Finished:
    """Run a command in the foreground of a terminal, and return what the terminal got."""
    with attended_terminal(columns=90) as terminal:
        process = start(
            [AFK, *words],
            cold=True,
            cwd=shell.folder,
            env=shell.environment(TERM="xterm-256color", **env),
            stdin=terminal.side,
            stdout=terminal.side,
            stderr=terminal.side,
            start_new_session=True,
            take_terminal=True,
        )
        seen, has_ended = b"", False
        while not has_ended or select.select([terminal.main], [], [], 0)[0]:
            has_ended = process.poll() is not None
            if select.select([terminal.main], [], [], 0.02)[0]:
                seen += os.read(terminal.main, 1 << 16)
        return Finished(process.wait(LIMIT), seen.decode(), "")


PLACES = {"pipes": on_pipes, "terminal": on_terminal}


@pytest.mark.parametrize(
    ("place", "line"),
    [(place, line) for place in PLACES for line in ON_BOTH.splitlines()]
    + [("pipes", line) for line in ON_PIPES.splitlines()],
)
def test_it_answers_the_same_warm(shell: WarmShell, place: str, line: str) -> None:
    words, run = words_of(line, shell), PLACES[place]
    cold = run(shell, words, AFK_WORKER="off")
    warm = shell.warm(lambda: run(shell, words))

    assert (warm.code, without_times(warm.out), without_times(warm.err)) == (
        cold.code,
        without_times(cold.out),
        without_times(cold.err),
    )


@pytest.mark.parametrize("line", COLD.splitlines())
def test_what_runs_cold_beside_a_worker_answers_the_same(shell: WarmShell, line: str) -> None:
    shell.warm_up()
    alone, beside = (on_pipes(shell, words_of(line, shell), AFK_WORKER=switch) for switch in ("off", "on"))

    assert beside == alone


def words_of(line: str, shell: WarmShell) -> list[str]:
    log = shell.logs()[0]
    return [str(log) if word == "LOG" else word for word in line.split()]


def without_times(text: str) -> str:
    """Leave out what depends on the time: how long ago something was, and what is shown while one waits."""
    text = re.sub(r"\x1bD\x1bM\x1b7.*?\x1b\[J\x1b8", "", text, flags=re.DOTALL)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)", "TIME", text)
    return re.sub(r" +(now|\d+ (s|min))( ago)? *", " AGE ", text)
