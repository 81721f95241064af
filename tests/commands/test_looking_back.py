"""Looking back: lists that fit the terminal, threads that are meant by a part of their names, and parts of a thread."""

from __future__ import annotations

import json
import re
import shlex
import signal
import sqlite3
import unicodedata
from pathlib import Path

import pytest
from afk_store_disk.store import DiskStore

from afkcli.core.contract.structs import replace
from afkcli.testing.model_server import Fault, ModelServer, Step
from afkcli.testing.store_steps import acquired, save_turn
from tests.commands.conftest import on_terminal
from tests.e2e.shell import Shell, kill, wait_for_output

UNNAMED = ["01a21c5a-f8a6-7273-9b29-33e33c8d2b10", "01a21c5a-f8a6-7273-9b29-44aa01020304"]
ODD_NAMES = [
    "日本語の長い長い会話の名前がここにありますので折り返してはいけません",
    "👩‍👩‍👧‍👦 family 👍🏽 🇩🇪 ❤️",
    "مرحبا بالعالم هذا اسم طويل جدا",
    "नमस्ते दुनिया",
    "x" * 200,
    "한국어 각각각",
    *UNNAMED,
]


def fill(shell: Shell, *names: str, question: str = "A question", folder: str | None = None) -> None:
    """Give a shell threads of one turn with these names, the last one used last."""
    store = DiskStore(shell.home / "afk" / "data")
    for second, name in enumerate(names):
        lease = acquired(store, name)
        lease = replace(lease, thread=replace(lease.thread, folder=folder))
        store.release(save_turn(store, lease, question, "Yes.", second))
    store.close()


_WIDE = ((0x1100, 0x115F), (0x2E80, 0xA4CF), (0xAC00, 0xD7A3), (0xF900, 0xFAFF), (0xFF00, 0xFF60), (0x1F300, 0x1FAFF))


def columns_of(line: str) -> int:
    """Return the columns that a line takes: two for the scripts of East Asia and emoji, none for combining marks."""
    shown = [ord(char) for char in line if unicodedata.category(char) not in ("Mn", "Me")]
    return sum(2 if any(first <= code <= last for first, last in _WIDE) else 1 for code in shown)


class TestTheListOnATerminal:
    @pytest.mark.parametrize("columns", [100, 80, 40, 20, 5])
    def test_no_line_is_wider_than_the_terminal(self, shell: Shell, columns: int) -> None:
        fill(shell, *ODD_NAMES, question="日本語 👍🏽 مرحبا and a long question " * 5)
        code, seen = on_terminal(shell, "threads", NO_COLOR="1", LINES="24", columns=columns)
        lines = seen.split("\r\n")[:-1]
        assert (code, len(lines)) == (0, 1 + len(ODD_NAMES))
        assert max(map(columns_of, lines)) <= columns

    @pytest.mark.parametrize("columns", [80, 40])
    def test_age_turns_cost_and_title_are_seen_beside_a_long_name(self, shell: Shell, columns: int) -> None:
        fill(shell, "n" * 200, question="Which beans?")
        head, row = on_terminal(shell, "threads", NO_COLOR="1", columns=columns)[1].split("\r\n")[:2]
        assert head.split() == ["NAME", "USED", "TURNS", "COST", "TITLE"]
        name, used, turns, cost, *title = row.split()
        assert (name.rstrip("…").strip("n"), used[-1], turns, cost) == ("", "y", "1", "$0.25")
        assert " ".join(title).startswith("Which")

    def test_an_unnamed_thread_has_a_short_name_that_shows_it(self, shell: Shell) -> None:
        fill(shell, *UNNAMED)
        rows = on_terminal(shell, "threads", NO_COLOR="1", columns=40)[1].split("\r\n")[1:3]
        assert [row.split()[0] for row in rows] == ["020304", "8d2b10"]
        assert shell.in_process("threads", "show", "8d2b10", "--json").events[0]["thread_id"] == UNNAMED[0]

    def test_a_state_that_is_not_completed_is_seen_without_a_column(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text=["Half an ", "answer"], fault=Fault.CUT, fault_after=1))
        keyed.in_process("run", "-t", "cut", "Go on")
        row = on_terminal(keyed, "threads", NO_COLOR="1", columns=60)[1].split("\r\n")[1]
        assert row.endswith("[failed] Go on")

    def test_it_is_left_after_a_page(self, shell: Shell) -> None:
        fill(shell, *(f"t-{number}" for number in range(60)))
        _, seen = on_terminal(shell, "threads", "--all", typed=b"\nq\n", NO_COLOR="1", LINES="20")
        assert seen.count("A question") == 2 * 18

    def test_in_a_pipe_nothing_is_cut(self, shell: Shell) -> None:
        fill(shell, *ODD_NAMES, question="q" * 80)
        lines = shell.in_process("threads", COLUMNS="40").out.splitlines()
        assert all(line.endswith("q" * 80) for line in lines)
        assert {"x" * 200, *UNNAMED} <= {line.split()[0] for line in lines}


class TestTheFilters:
    def test_choose_by_folder_agent_model_tag_and_time(self, talked: Shell, tmp_path: Path) -> None:
        def names(*options: str) -> list[str]:
            return [row["thread_id"] for row in talked.in_process("threads", "--json", *options).events]

        talked.in_process("threads", "tag", "trip", "travel")
        assert names("--tag", "travel") == ["trip"]
        assert names("--tag", "trav") == names("--agent", "other") == names("--model", "gpt") == []
        assert names("--model", "gpt-5.2-mini") == names("--model", "openai/gpt-5.2-mini", "--agent", "afk")
        assert names("--since", "1d") == names("--here", "--since", "today") == ["soup", "trip"]
        assert names("--until", "1d") == names("--since", "2030-01-01") == []
        talked.folder = tmp_path
        assert names("--here") == []

    def test_that_leave_no_thread_say_so(self, talked: Shell) -> None:
        done = talked.in_process("threads", "--tag", "nothing")
        assert (done.code, done.out, done.err) == (0, "", "afk: no thread matches\n")

    def test_before_a_command_are_refused(self, talked: Shell) -> None:
        assert talked.in_process("threads", "--tag", "x", "show", "trip").code == 2


class TestAPartOfAName:
    COMMANDS = (
        ("show", "NAME"),
        ("export", "NAME"),
        ("export", "NAME", "--format", "markdown"),
        ("undo", "NAME"),
        ("tag", "NAME", "x"),
        ("fork", "NAME", "copy"),
        ("rename", "NAME", "other"),
        ("rm", "-y", "NAME"),
        ("resume", "NAME"),
    )

    @pytest.mark.parametrize("text", ["gar", "8d2b10", "8d2", "8D2B1", "01a21c5a-f8a6-7273-9b29-3", "33E33C8D2B10"])
    @pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
    def test_that_no_other_thread_has_means_it(self, keyed: Shell, command: tuple[str, ...], text: str) -> None:
        fill(keyed, "garden", *UNNAMED)
        meant = "garden" if text == "gar" else UNNAMED[0]
        done = keyed.in_process("threads", *(text if word == "NAME" else word for word in command))
        if command[0] == "resume":
            assert f"turn 1 of thread {meant!r} is completed" in done.err
        else:
            assert done.code == 0, done.err
        listed = [row["thread_id"] for row in keyed.in_process("threads", "--json").events]
        assert (meant in listed) == (command[0] not in ("rm", "rename"))

    @pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
    def test_that_several_have_is_refused_with_their_names(self, keyed: Shell, command: tuple[str, ...]) -> None:
        fill(keyed, "garden", "garlic", "gate", "gargoyle", "gargle", "garage")
        done = keyed.in_process("threads", *("gar" if word == "NAME" else word for word in command))
        assert (done.code, done.out) == (2, "")
        assert done.err.endswith(
            "'gar' may mean several threads: 'garage', 'gargle', 'gargoyle', 'garlic' and more; "
            "write more of the name\n"
        )
        assert len(keyed.in_process("threads").out.splitlines()) == 6

    def test_an_exact_name_wins(self, keyed: Shell) -> None:
        fill(keyed, "gar", "garden")
        assert keyed.in_process("threads", "show", "gar", "--json").events[0]["thread_id"] == "gar"

    def test_of_unnamed_threads_is_refused_with_their_short_names(self, keyed: Shell) -> None:
        fill(keyed, *UNNAMED)
        assert "'020304' or '8d2b10'; write more" in keyed.in_process("threads", "show", "01a2").err

    @pytest.mark.parametrize("text", ["b10", "arden", "2b1", "den", "8d"])
    def test_of_other_kinds_means_no_thread(self, keyed: Shell, text: str) -> None:
        fill(keyed, "garden", UNNAMED[0])
        assert keyed.in_process("threads", "show", text).code == 2

    def test_is_a_new_name_for_a_run(self, keyed: Shell) -> None:
        fill(keyed, "garden")
        assert keyed.in_process("run", "-t", "gar", "hi").code == 0
        assert [row["thread_id"] for row in keyed.in_process("threads", "--json").events] == ["gar", "garden"]

    @pytest.mark.parametrize(
        ("begun", "names"),
        [("gar", ["garden"]), ("8d2b10", UNNAMED[:1]), ("8d2", UNNAMED[:1]), ("01a2", UNNAMED[::-1])],
    )
    def test_is_completed_by_the_tab_key(self, shell: Shell, begun: str, names: list[str]) -> None:
        fill(shell, "garden", *UNNAMED)
        done = shell.afk(_AFK_COMPLETE="bash_complete", COMP_WORDS=f"afk threads show {begun}", COMP_CWORD="3")
        assert [line.partition(",")[2] for line in done.out.split()] == names


class TestAPartOfAThread:
    @pytest.fixture
    def five(self, keyed: Shell) -> Shell:
        """A thread `five` of five turns, the third one undone, so that they are 1, 2, 4 and 5."""
        for number in (1, 2, 3):
            assert keyed.in_process("run", "-t", "five", f"Question {number}").code == 0
        assert keyed.in_process("threads", "undo", "five").code == 0
        for number in (4, 5):
            assert keyed.in_process("run", "-t", "five", f"Question {number}").code == 0
        return keyed

    @pytest.mark.parametrize("options", [("--turn", "9"), ("--turn", "7-"), ("--since", "2999-01-01")])
    def test_that_does_not_exist_is_said_with_the_line_that_shows_all(
        self, keyed: Shell, options: tuple[str, ...]
    ) -> None:
        keyed.in_process("run", "-t", "my trip", "Question")
        done = keyed.in_process("threads", "show", "my trip", *options)

        assert done.out == ""
        assert done.err == (
            "afk: the thread 'my trip' does not have the requested turns; `afk threads show 'my trip' --all` shows all"
            " turns\n"
        )

    @pytest.mark.parametrize(
        ("options", "turns"),
        [
            ((), [1, 2, 4, 5]),
            (("-n", "1"), [5]),
            (("-n", "3"), [2, 4, 5]),
            (("-n", "3", "--all"), [3, 4, 5]),
            (("-n", "99"), [1, 2, 4, 5]),
            (("--turn", "2"), [2]),
            (("--turn", "3"), [3]),
            (("--turn", "2-4"), [2, 3, 4]),
            (("--turn", "4-"), [4, 5]),
            (("--turn", "-2"), [1, 2]),
            (("--turn", "2-4", "-n", "1"), [4]),
            (("--since", "1h"), [1, 2, 4, 5]),
            (("--since", "2030-01-01"), []),
            (("--turn", "9"), []),
        ],
    )
    def test_is_shown(self, five: Shell, options: tuple[str, ...], turns: list[int]) -> None:
        shown = five.in_process("threads", "show", "five", "--json", *options)
        assert (shown.code, [turn["turn"] for turn in shown.events]) == (0, turns)
        assert [turn["messages"][0]["parts"][0]["text"] for turn in shown.events] == [f"Question {n}" for n in turns]
        text = five.in_process("threads", "show", "five", *options).out
        assert [line.split()[1] for line in text.splitlines() if line.startswith("turn ")] == list(map(str, turns))
        raw = five.in_process("threads", "show", "five", "--raw", *options).events
        assert [row["turn"] for row in raw if row["kind"] == "seal" and (options or row["turn"] != 3)] == turns

    @pytest.mark.parametrize("turns", ["0", "x", "4-2", "", "-", "1,2"])
    def test_that_is_no_range_is_refused(self, five: Shell, turns: str) -> None:
        assert five.in_process("threads", "show", "five", "--turn", turns).code == 2

    def test_in_raw_is_what_an_export_has(self, five: Shell) -> None:
        raw = five.in_process("threads", "show", "five", "--raw").out.splitlines()
        exported = five.in_process("threads", "export", "five").out.splitlines()
        assert raw == exported[1:-1]
        assert json.loads(raw[-1])["kind"] == "seal"
        assert five.in_process("threads", "show", "five", "--raw", "--json").code == 2

    def test_shows_tokens_cost_state_and_model(self, five: Shell) -> None:
        config = five.home / "afk" / "config" / "config.toml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text('[prices]\n"openai/gpt-5.2-mini" = { input = 1000.0, output = 1000.0 }\n')
        assert five.in_process("run", "-t", "five", "Question 6").code == 0
        head = five.in_process("threads", "show", "five", "-n", "1").out.splitlines()[0]
        state, model, tokens, cost = head.split(" · ")[2:]
        assert (state, model) == ("completed", "openai/gpt-5.2-mini")
        assert " in, " in tokens
        assert " out" in tokens
        assert "$" in cost

    def test_without_a_name_is_of_the_thread_last_used_here(self, five: Shell, tmp_path: Path) -> None:
        here = five.in_process("threads", "show", "-n", "1")
        assert here.err == "afk: thread five\n"
        assert "Question 5" in here.out
        before, five.folder = five.folder, tmp_path
        elsewhere = five.in_process("threads", "show", "-n", "1")
        assert elsewhere.err == f"afk: thread five, last used in {before}\n"
        assert elsewhere.out == here.out

    def test_without_a_thread_is_refused(self, shell: Shell) -> None:
        done = shell.in_process("threads", "show")
        assert (done.code, done.out) == (2, "")
        assert "there are no threads yet" in done.err

    def test_of_a_damaged_thread_names_the_damage(self, five: Shell) -> None:
        database = sqlite3.connect(five.home / "afk" / "data" / "threads.db")
        with database:
            database.execute("UPDATE Cache SET value = replace(value, 'Question 5', 'Question 6')")
        database.close()
        done = five.in_process("threads", "show", "five", "-n", "1", "--json")
        assert [turn["turn"] for turn in done.events] == [4]
        assert re.match(r"afk: turn 5 of thread 'five' \(record \d+\) is damaged", done.err)

    @pytest.mark.parametrize("text", ["tri", "trip"])
    def test_of_its_name_chooses_events_and_usage(self, talked: Shell, text: str) -> None:
        events = talked.in_process("events", "tail", "--json", "-n", "1000", "-t", text).events
        assert {event["thread_id"] for event in events} == {"trip"}
        log = talked.one_log()
        assert "To Paris" in talked.in_process("replay", str(log), "-t", text).err
        (row,) = talked.in_process("usage", "--json", "-t", text, "--by", "thread").events
        assert (row["thread"], row["turns"]) == ("trip", 2)

    def test_of_a_name_finds_the_events_of_a_deleted_thread(self, talked: Shell) -> None:
        talked.in_process("threads", "rm", "-y", "trip")
        assert talked.in_process("events", "tail", "--json", "-t", "trip").events
        assert talked.in_process("usage", "-t", "trip").code == 2


class TestANewThread:
    @pytest.mark.parametrize("name", ["gardne", "grden", "gardden", "Garden"])
    def test_is_said_on_a_terminal_with_the_name_that_was_meant(
        self, keyed: Shell, server: ModelServer, name: str
    ) -> None:
        fill(keyed, "garden", "kitchen")
        _, seen = on_terminal(keyed, "run", "-n", "-t", name, "hi", NO_COLOR="1")
        assert f"afk: new thread {name!r}; did you mean 'garden'?\r\n" in seen
        assert seen.index("new thread") < seen.index("reply 1")
        assert len(server.bodies) == 1
        _, seen = on_terminal(keyed, "run", "-n", "-t", name, "hi", NO_COLOR="1")
        assert "new thread" not in seen

    @pytest.mark.parametrize("name", ["orchard", "day-2", "gard"])
    def test_with_no_near_name_is_said_alone(self, keyed: Shell, name: str) -> None:
        fill(keyed, "garden", "day-1")
        _, seen = on_terminal(keyed, "run", "-n", "-t", name, "hi", NO_COLOR="1")
        assert f"afk: new thread {name!r}\r\n" in seen

    def test_is_not_said_when_quiet_nor_in_a_pipe_nor_without_memory(self, keyed: Shell) -> None:
        assert "new thread" not in on_terminal(keyed, "run", "-q", "-n", "-t", "one", "hi")[1]
        assert "new thread" not in keyed.in_process("run", "-t", "two", "hi").err
        assert "new thread" not in on_terminal(keyed, "run", "--no-memory", "-n", "-t", "three", "hi")[1]
        assert "new thread" not in on_terminal(keyed, "run", "-n", "hi")[1]  # its name was not written by anybody


class TestAfterACut:
    @pytest.mark.parametrize("name", ["story", "it's late", "a b", "$HOME"])
    def test_the_command_that_continues_is_named_and_works(self, keyed: Shell, server: ModelServer, name: str) -> None:
        server.script(Step(text=["Half an ", "answer"], fault=Fault.CUT, fault_after=1), Step(text="answer"))
        done = keyed.in_process("run", "-t", name, "Go on")
        assert done.code == 4
        line = done.err.splitlines()[-1]
        command = shlex.split(line.removeprefix("afk: `").removesuffix("` continues it"))
        assert command == ["afk", "threads", "resume", name]
        assert keyed.in_process(*command[1:]).code == 0

    def test_of_an_unnamed_thread_it_is_named_too(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text="Once upon a", finish_reason="length"))
        done = keyed.in_process("run", "Tell me a story")
        (thread,) = keyed.in_process("threads", "--json").events
        assert done.code == 3
        assert done.err.endswith(f"afk: `afk threads resume {thread['thread_id']}` continues it\n")

    def test_by_ctrl_c_it_is_named(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text=["So far ", "so good"], fault=Fault.HANG, fault_after=1))
        process = keyed.start("run", "-t", "story", "Go")
        wait_for_output(process, b"So far")
        _, err = kill(process, signal.SIGINT)
        assert process.returncode == -signal.SIGINT
        assert err.decode().endswith("afk: `afk threads resume story` continues it\n")
        server.release()

    @pytest.mark.parametrize("options", [("-q",), ("--no-memory",), ("--json",)])
    def test_it_is_not_named_where_it_is_not_wanted_or_cannot_work(
        self, keyed: Shell, server: ModelServer, options: tuple[str, ...]
    ) -> None:
        server.script(Step(text=["Half an ", "answer"], fault=Fault.CUT, fault_after=1))
        assert "resume" not in keyed.in_process("run", "-t", "story", *options, "Go on").err

    def test_of_a_failure_before_any_answer_it_is_not_named(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(status=401, body={"error": {"message": "bad key"}}))
        done = keyed.in_process("run", "-t", "story", "Go on")
        assert done.code == 4
        assert "resume" not in done.err
