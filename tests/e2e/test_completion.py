"""The Tab key in bash, zsh and fish: names with odd characters, descriptions, files."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from afkcli.testing.model_server import ModelServer
from tests.e2e.interactive_shell import InteractiveShell, interactive
from tests.e2e.shell import AFK, LIMIT, Shell

SHELLS = ["bash", "zsh", "fish"]
NAMES = [
    "my trip",
    "trip",
    "it's here",
    "cost $HOME",
    "a:b",
    'q"uote',
    "ünï日本",
    "x!y",
    "back\\slash",
    "semi;colon",
    "(paren)",
    "#hash",
    "star*",
    "tab&amp",
    "who?",
    "[box]",
    "{one,two}",
    "p|pe",
    "le<gt>",
    "tick`s",
    "v=1",
    "at@home",
    "100%",
]


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell with threads of odd names, two agents, a prompt and a file with a blank in its name."""
    tmp = tmp_path_factory.mktemp("completion")
    shell = Shell(home=tmp / "home", folder=tmp / "work")
    shell.home.mkdir()
    shell.folder.mkdir()
    (shell.folder / "my notes.txt").write_text("Milk")
    config = shell.home / "afk" / "config"
    (config / "prompts").mkdir(parents=True)
    (config / "prompts" / "review.md").write_text("---\ndescription: Review a change\n---\nReview this.\n")
    (config / "config.toml").write_text(
        '[agents.reviewer]\nmodel = "openai/gpt-5.2"\n[agents."two words"]\ninstructions = "Be brief."\n'
    )
    with ModelServer() as server:
        shell.env.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-canary-0123456789")
        for name in NAMES:
            assert shell.in_process("run", "-n", "-m", "gpt-5.2-mini", "-t", name, "Hello there").code == 0
    return shell


@pytest.fixture(scope="module", params=SHELLS)
def typing(request: pytest.FixtureRequest, named: Shell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typing]:
    if shutil.which(request.param) is None:
        pytest.fail(f"{request.param} is not installed; .ci/run installs it")
    with interactive(named, request.param, tmp_path_factory.mktemp(request.param)) as started:
        yield request.param, started


Typing = tuple[str, InteractiveShell]


@pytest.mark.parametrize("name", NAMES)
def test_the_tab_key_completes_the_name_of_a_thread(typing: Typing, name: str) -> None:
    """The beginning is typed in single quotes, in which all that is special in a shell is text."""
    _, shell = typing
    begun = name[:2].replace("\\", "\\\\")

    if "'" not in begun:
        assert shell.arguments(f"afk run -t '{begun}\t") == ["run", "-t", name]
    if begun.isalnum():
        assert shell.arguments(f"afk run -t {begun}\t") == ["run", "-t", name]
        assert shell.arguments(f'afk run -t "{begun}\t') == ["run", "-t", name]


@pytest.mark.parametrize(
    ("typed", "arguments"),
    [
        ("thr\tsh\ttri\t", ["threads", "show", "trip"]),  # as docs/how-to/completion.md shows it
        ("run --thr\ttri\t", ["run", "--thread", "trip"]),
        ("run -t my\\ \t", ["run", "-t", "my trip"]),
        ("run -t a:\t", ["run", "-t", "a:b"]),
        ("run --thread=tri\t", ["run", "--thread=trip"]),
        ("run --thread=my\t", ["run", "--thread=my trip"]),
        ("run --approvals d\t", ["run", "--approvals", "deny"]),
        ("run --busy=fo\t", ["run", "--busy=fork"]),
        ("run -a rev\t", ["run", "-a", "reviewer"]),
        ("run -a two\t", ["run", "-a", "two words"]),
        ("run -p rev\t", ["run", "-p", "review"]),
        ("run --tool fi\t", ["run", "--tool", "files.*"]),
        ("run --attach my\t", ["run", "--attach", "my notes.txt"]),
        ("run --attach=my\t", ["run", "--attach=my notes.txt"]),
        ("run --schema my\t", ["run", "--schema", "my notes.txt"]),
        ("replay my\t", ["replay", "my notes.txt"]),
        ("threads import my\t", ["threads", "import", "my notes.txt"]),
        ("threads export trip -o my\t", ["threads", "export", "trip", "-o", "my notes.txt"]),
        ("run -t 'my trip' --jso\t", ["run", "-t", "my trip", "--json"]),
        ("run --frobnicate x\t", ["run", "--frobnicate", "x"]),
    ],
)
def test_the_tab_key_completes_the_rest(typing: Typing, typed: str, arguments: list[str]) -> None:
    assert typing[1].arguments(f"afk {typed}") == arguments


@pytest.mark.parametrize(
    ("typed", "described"),
    [
        ("afk th", "List, show, rename"),
        ("afk run --a", "The agent, by its name"),
        ("afk threads re", "the last undo of the thread"),
    ],
)
def test_what_is_listed_has_a_description(typing: Typing, named: Shell, typed: str, described: str) -> None:
    name, shell = typing
    if name == "fish":
        listed = subprocess.run(
            ["fish", "--no-config", "-c", f"afk completion fish | source; complete -C '{typed}'"],
            env=named.environment(PATH=f"{AFK.parent}:/usr/bin:/bin"),
            cwd=named.folder,
            capture_output=True,
            text=True,
            check=True,
            timeout=LIMIT,
        ).stdout
        assert described in listed
    elif typed == "afk th":
        assert shell.arguments(f"{typed}\t") == ["threads"]
    else:
        assert described in shell.listed(typed + ("\t\t" if name == "bash" else "\t"), described)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_one_that_its_shell_can_read(named: Shell, tmp_path: Path, shell: str) -> None:
    done = named.in_process("completion", shell)
    script = tmp_path / "script"
    script.write_text(done.out)

    assert (done.code, done.err) == (0, "")
    subprocess.run([shell, "-n", script], check=True, capture_output=True, timeout=LIMIT)


@pytest.mark.parametrize(
    ("own", "file"),
    [("/bin/bash", "~/.bashrc"), ("/usr/bin/zsh", "~/.zshrc"), ("fish", "config.fish"), ("", ".bashrc")],
)
def test_completion_without_a_shell_says_where_the_line_belongs(named: Shell, own: str, file: str) -> None:
    done = named.in_process("completion", SHELL=own)

    assert (done.code, done.out) == (2, "")
    assert "afk: name the shell, one of bash, zsh, fish; for yours, put this line into " in done.err
    assert file in done.err


@pytest.mark.parametrize("config", ["model = ", "[agents.x]\nmodle = 1\n"])
@pytest.mark.parametrize(
    "arguments", [["run", "-a", ""], ["run", "-t", "x"], ["nothing", "x"], ["run", "--nothing", ""], []]
)
def test_what_cannot_be_completed_leaves_the_line_alone(tmp_path: Path, config: str, arguments: list[str]) -> None:
    shell = Shell(home=tmp_path, folder=tmp_path)
    (tmp_path / "afk" / "config").mkdir(parents=True)
    (tmp_path / "afk" / "config" / "config.toml").write_text(config)
    done = shell.in_process(*arguments, _AFK_COMPLETE="zsh")

    assert (done.code, done.err) == (0, "")
    assert arguments == [] or done.out == ""


def test_a_line_of_the_completion_has_kind_value_and_help(named: Shell) -> None:
    out = named.in_process("run", "--thread=tri", _AFK_COMPLETE="zsh").out
    assert out == "plain\t--thread=trip\tHello there\n"
    assert named.in_process("run", "-a", "rev", _AFK_COMPLETE="fish").out == "plain\treviewer\topenai/gpt-5.2\n"
    assert named.in_process("run", "-p", "rev", _AFK_COMPLETE="zsh").out == "plain\treview\tReview a change\n"
    assert named.in_process("replay", "", _AFK_COMPLETE="zsh").out == "file\t-\t\n"


@pytest.mark.parametrize(
    "locale", [{"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
@pytest.mark.parametrize("shell", SHELLS)
def test_a_name_that_the_locale_has_no_characters_for_hides_no_other(
    named: Shell, shell: str, locale: dict[str, str]
) -> None:
    words = ["afk run -t ", " "] if shell == "bash" else ["run", "-t", ""]
    environment = named.environment(_AFK_COMPLETE=shell, **locale)
    done = subprocess.run([AFK, *words], env=environment, cwd=named.folder, capture_output=True, timeout=LIMIT)

    assert (done.returncode, done.stderr) == (0, b"")
    values = [line.split(b"\t")[1] for line in done.stdout.splitlines()]
    assert b"trip" in values
    assert len(values) == len(NAMES) - 1


def test_the_scripts_of_the_last_version_still_complete(named: Shell) -> None:
    out = named.afk(_AFK_COMPLETE="zsh_complete", COMP_WORDS="afk run -t tri", COMP_CWORD="3").out

    assert "trip" in out.split()
