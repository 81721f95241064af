"""`afk --version` and `afk --help` are printed without click, and look as click would print them."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from afkcli.command_group import cli
from afkcli.front_page import COMMANDS, first_page, front_page
from afkcli.host.invocation import Invocation, Stream
from afkcli.host.keys import KEYS_FILE
from tests.commands.conftest import Install, install
from tests.e2e.conftest import shell
from tests.e2e.shell import LIMIT, Shell

__all__ = ["install", "shell"]

NAMES: dict[str, list[str]] = {
    "none": [],
    "one": ["hello"],
    "longer than ours": ["hello-to-the-world", "z"],
    "as long as the column": ["n" * 30],
    "longer than the column": ["n" * 31, "short"],
}


def invocation(*arguments: str, **environment: str) -> Invocation:
    streams = [Stream(number, None) for number in (0, 1, 2)]
    return Invocation(
        arguments=arguments,
        environment=environment,
        folder="/",
        stdin=streams[0],
        stdout=streams[1],
        stderr=streams[2],
    )


@pytest.mark.parametrize("columns", [1, 40, 52, 60, 79, 80, 81, 99, 100, 101, 200])
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_the_help_is_what_click_would_print(monkeypatch: pytest.MonkeyPatch, names: list[str], columns: int) -> None:
    for module in ("front_page", "command_group"):
        monkeypatch.setattr(f"afkcli.{module}.plugin_commands", lambda: names)
    monkeypatch.setattr(cli, "_shows_help", None)  # it is kept, also of another context
    monkeypatch.setenv("COLUMNS", str(columns))
    with cli.make_context("afk", [], resilient_parsing=True) as context:
        expected = f"{cli.get_help(context)}\n"

    assert front_page(invocation("--help", COLUMNS=str(columns))) == expected
    assert front_page(invocation("-h", COLUMNS=str(columns))) == expected
    assert all(name in "".join(expected.split()) for name in (*COMMANDS, *names))


def test_a_name_whose_width_is_not_known_is_left_to_click(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("afkcli.front_page.plugin_commands", lambda: ["日本"])

    assert front_page(invocation("--help")) is None


def test_afk_alone_shows_three_commands_and_where_all_are(shell: Shell) -> None:
    done = shell.in_process()

    assert (done.code, done.out) == (2, "")
    assert [
        line.split('"')[0].split("  ")[1].strip() for line in done.err.splitlines() if line.startswith("  afk ")
    ] == [
        "afk run",
        "afk chat",
        "afk threads",
    ]
    assert "`afk --help` lists all commands" in done.err


@pytest.mark.parametrize(
    "env", [{"OPENAI_API_KEY": "sk-canary"}, {"GROQ_API_KEY": "k"}, {"AFK_MODEL": "m"}, {"OPENAI_BASE_URL": "http://x"}]
)
def test_afk_alone_names_the_next_step_until_there_is_a_key(shell: Shell, env: dict[str, str]) -> None:
    assert "No key is set" in shell.in_process().err
    assert "No key is set" in shell.in_process(**dict.fromkeys(env, "")).err
    assert "No key is set" not in shell.in_process(**env).err


@pytest.mark.parametrize("name", ["config.toml", KEYS_FILE])
def test_afk_alone_takes_a_config_for_one_that_names_a_model(shell: Shell, name: str) -> None:
    config = Path(shell.environment()["AFK_HOME"]) / "config" / name
    config.parent.mkdir(parents=True)
    config.write_text("")

    assert "No key is set" not in shell.in_process().err


@pytest.mark.parametrize("columns", [1, 20, 40, 80, 200])
def test_the_page_of_afk_alone_fits_the_terminal(columns: int) -> None:
    page = first_page(invocation(COLUMNS=str(columns), AFK_HOME="/nonexistent"))

    assert page is not None
    assert max(map(len, page.splitlines())) <= max(columns, 20)
    assert page.isascii()
    assert first_page(invocation("run")) is None
    assert first_page(invocation(_AFK_COMPLETE="bash_complete")) is None


@pytest.mark.parametrize(
    "arguments", [["run"], ["run", "--help"], ["--version", "run"], ["--help", "--version"], ["--versio"], ["-Vh"]]
)
def test_any_other_call_is_clicks(arguments: list[str]) -> None:
    assert front_page(invocation(*arguments)) is None


def test_a_shell_that_completes_words_gets_no_page() -> None:
    assert front_page(invocation("--help", _AFK_COMPLETE="bash_complete")) is None


def test_an_installed_command_is_listed_and_one_that_two_claim_is_not(shell: Shell, install: Install) -> None:
    install("one", {"afk": {"command.hello": "one", "command.same": "one", "command.run": "one", "sink.quiet": "one"}})
    install("two", {"afk": {"command.same": "two"}})

    lines = shell.afk("--help").out.splitlines()

    assert lines[lines.index("From plugins:") + 1] == "  hello  (from a plugin)"
    assert len([line for line in lines if line.startswith("  run ")]) == 1
    assert not any(line.startswith(("  same", "  quiet")) for line in lines)


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["run", "--help"]], ids=" ".join)
@pytest.mark.parametrize("stderr", ["pipe", "file"])
def test_a_page_that_cannot_be_written_is_an_error(
    shell: Shell, tmp_path: Path, arguments: list[str], stderr: str
) -> None:
    shell.cold = True
    written = tmp_path / "stderr"
    with Path("/dev/full").open("wb") as full, written.open("wb") as file:
        process = shell.start(*arguments, stdout=full, stderr=file if stderr == "file" else subprocess.PIPE)
        _, piped = process.communicate(timeout=LIMIT)
    lines = (piped or written.read_bytes()).decode().splitlines()

    assert process.returncode == 1
    assert len(lines) == 1
    assert "No space left" in lines[0]


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["run", "--help"], ["threads", "--help"], ["threads", "show", "-h"]],
    ids=" ".join,
)
def test_a_page_whose_reader_has_gone_ends_it_by_sigpipe_without_a_message(shell: Shell, arguments: list[str]) -> None:
    shell.cold = True
    process = shell.start(*arguments)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()

    assert process.wait(LIMIT) == -signal.SIGPIPE
    assert process.stderr.read() == b""
