"""Mistakes that people make, and the line that each gets: `docs/reference/mistakes.md` has them all."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.commands.conftest import Install, install, keyed, on_terminal, server, shell, talked, talked_home
from tests.commands.mistakes import mistakes, words_of
from tests.e2e.shell import Shell

__all__ = ["install", "keyed", "server", "shell", "talked", "talked_home"]

MISTAKES = list(mistakes())


@pytest.fixture(scope="module")
def trip(talked_home: Shell, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell with the threads `trip` and `soup`, an agent `reviewer`, and the file `notes.txt`. No call changes it."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "notes.txt").write_text("Milk, eggs.\n")
    config = talked_home.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text('[agents.reviewer]\ninstructions = "Review it."\n')
    return Shell(home=talked_home.home, folder=folder)


@pytest.mark.parametrize(("typed", "said"), MISTAKES, ids=[typed for typed, _ in MISTAKES])
def test_a_mistake_gets_its_line(trip: Shell, typed: str, said: str) -> None:
    done = trip.in_process(*words_of(typed))

    assert (done.code, done.out, done.err) == (2, "", f"{said}\n")


def test_the_page_has_fifty_mistakes() -> None:
    assert len(MISTAKES) >= 50
    assert len({typed for typed, _ in MISTAKES}) == len(MISTAKES)


@pytest.mark.parametrize(("typed", "said"), MISTAKES, ids=[typed for typed, _ in MISTAKES])
def test_a_line_names_the_word_and_the_next_step(typed: str, said: str) -> None:
    assert said.startswith("afk: ")
    assert len(said) <= 200
    assert any(mark in said for mark in ("type", "did you mean", "`afk ", "send", "must be", "write", "put", "give it"))


@pytest.mark.parametrize(
    ("typed", "said"), [row for row in MISTAKES if "; type: afk " in row[1] or "to a model: " in row[1]]
)
def test_what_is_to_be_typed_is_a_call_of_afk(trip: Shell, typed: str, said: str) -> None:
    """The line is pasted as it is; with `--help` at its end it runs nothing, but a wrong command would be refused."""
    line = said.rpartition("type: " if "type: afk" in said else "to a model: ")[2]
    done = trip.in_process(*words_of(f"{line.removeprefix('afk ')} --help"))

    assert done.code == 0, done.err


@pytest.mark.parametrize(
    "typed",
    [
        "help threads show",
        "help what is this",
        "plugins show files",
        "plugins list --json",
        "keys show openai",
        "list trip",
        "ls -n 3",
        "model gpt-5",
        "models default gpt-5",
        "status now",
        "usage all",
        "threads -t trip",
        "threads rm --thread trip",
        "threads export --thread=trip",
    ],
)
def test_a_line_to_type_is_one_that_afk_accepts(trip: Shell, typed: str) -> None:
    line = trip.in_process(*typed.split()).err.rpartition("type: afk ")[2]
    err = trip.in_process(*words_of(line.rstrip())).err

    assert line
    assert "No such" not in err
    assert "unexpected" not in err


@pytest.mark.parametrize("name", ["", " ", "\t"])
def test_an_empty_word_is_not_suggested_as_a_message(trip: Shell, name: str) -> None:
    for path in ([], ["threads"], ["prompts"]):
        err = trip.in_process(*path, name).err
        assert err.startswith("afk: No such command ")
        assert "afk run" not in err
        assert "show" not in err


@pytest.mark.parametrize("typed", ["frobnicate", "run --modl x hi", "undo", "run -model x hi", "run -t a -t b hi"])
def test_the_traceback_of_a_mistake_is_shown_with_debug(trip: Shell, typed: str) -> None:
    done = trip.in_process(*typed.split(), "--debug")

    assert done.code == 2
    assert done.err.startswith("Traceback (most recent call last):\n")
    assert done.err.splitlines()[-1].startswith("afk: ")


@pytest.mark.parametrize(
    "message",
    [
        "What is up?",
        "What's up?",
        'He said "hi"!',
        "it's 5 o'clock; `date` says $HOME \\ !x",
        "$(reboot) now",
        "two  blanks   and three",
        "# no comment",
        "~ and * and [a]",
        "日本 は?",
        "line\nbreak and\ttab 'q' \\",
        "\x1b[31m red",
    ],
)
def test_the_line_to_type_has_the_same_words(shell: Shell, message: str) -> None:
    done = shell.in_process(message)
    (line,) = done.err.splitlines()
    command = line.partition("to send it to a model: afk ")[2]

    assert done.code == 2
    assert words_of(command) == ["run", message]


@pytest.mark.parametrize("shell_name", ["zsh", "fish"])
@pytest.mark.parametrize("message", ["What's up?", 'He said "hi"!', "it's 5 o'clock; `x` $HOME !x", "a 'b' \"c\" \\d"])
def test_the_line_to_type_is_the_same_in_other_shells(shell: Shell, shell_name: str, message: str) -> None:
    import subprocess

    (line,) = shell.in_process(message).err.splitlines()
    command = line.partition("to send it to a model: afk ")[2]
    done = subprocess.run(
        [shell_name, "-c", f"printf '%s\\n' {command}"],
        capture_output=True,
        text=True,
        check=True,
        env=shell.environment(),
    )

    assert done.stdout == f"run\n{message}\n"


def test_a_long_question_is_cut(shell: Shell) -> None:
    (line,) = shell.in_process("What is " + "x" * 100_000).err.splitlines()

    assert len(line) < 800
    assert line.endswith("...")


def test_the_command_of_a_plugin_is_suggested(shell: Shell, install: Install) -> None:
    install("hello", {"afk": {"command.hello": "hello"}}, hello="AFK_HOOKS = 1\n")

    assert shell.afk("helo").err == "afk: No such command 'helo'; did you mean 'hello'?; see `afk --help`\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "-sBe brief", "hi"),
        ("run", "-m", "gpt-5.2-mini", "-n", "hi"),
        ("run", "-nm", "gpt-5.2-mini", "hi"),
        ("run", "-o", "temperature=0", "-o", "top_p=1", "hi"),
        ("run", "-t", "trip", "-t", "trip", "hi"),
        ("run", "--instructions=--json", "hi"),
        ("run", "a \u2013 b", "\u2013", "hi"),
        ("run", "--", "--thread", "hi"),
        ("run", "--", "\u2013thread", "hi"),
        ("run", "“Hello”"),
        ("run", "-s", "“Hello there” is a greeting", "hi"),
        ("run", "Bonjour\u00a0!"),
        ("run", "-s", "- be brief\n- be kind", "hi"),
    ],
)
def test_what_is_right_is_not_refused(keyed: Shell, arguments: tuple[str, ...]) -> None:
    done = keyed.in_process(*arguments)

    assert done.code == 0, done.err


class TestOnATerminal:
    def test_a_file_as_a_word_is_said_to_be_text(self, keyed: Shell) -> None:
        (keyed.folder / "my notes.txt").write_text("Milk")
        code, seen = on_terminal(keyed, "run", "-n", "my notes.txt", "Sum it up", NO_COLOR="1")

        assert code == 0
        assert seen.count("is sent as text") == 1
        assert "afk: 'my notes.txt' is sent as text; to attach the file: --attach 'my notes.txt'\r\n" in seen

    @pytest.mark.parametrize("word", ["@notes.txt", "./notes.txt", "https://example.org/x.pdf"])
    def test_other_forms_of_a_file_are_said_to_be_text(self, keyed: Shell, word: str) -> None:
        (keyed.folder / "notes.txt").write_text("Milk")
        _, seen = on_terminal(keyed, "run", "-n", "Sum it up", word, word, NO_COLOR="1")

        assert seen.count(f"{word!r} is sent as text; to attach the ") == 1
        assert f"--attach {word.removeprefix('@')}\r\n" in seen

    def test_an_option_after_two_hyphens_is_said_to_be_text(self, keyed: Shell) -> None:
        _, seen = on_terminal(keyed, "run", "-n", "--", "hi", "--json", NO_COLOR="1")

        assert "afk: '--json' follows `--`, so it is sent as text; an option comes before `--`\r\n" in seen

    @pytest.mark.parametrize("words", [["tests", "hi"], ["-q", "notes.txt", "hi"], ["Sum up notes.txt"]])
    def test_other_words_get_no_line(self, keyed: Shell, words: list[str]) -> None:
        (keyed.folder / "notes.txt").write_text("Milk")
        (keyed.folder / "tests").mkdir()
        _, seen = on_terminal(keyed, "run", "-n", *words)

        assert "is sent as text" not in seen

    def test_nothing_is_said_in_a_pipe(self, keyed: Shell) -> None:
        (keyed.folder / "notes.txt").write_text("Milk")

        assert "sent as text" not in keyed.in_process("run", "-n", "notes.txt", "hi").err


def test_the_words_of_a_message_reach_a_shell_as_they_were(tmp_path: Path) -> None:
    from afkcli.screen.shell_line import quoted

    for word in ("", "a", "a b", "'", '"', "\\", "!", "a'b!", "\n", "\x01", "\x7f", "é\n", "\U0001f600\t"):
        assert words_of(quoted(word)) == [word]
        if word.isprintable():
            assert shlex.split(quoted(word)) == [word]
