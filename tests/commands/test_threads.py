"""`afk threads`, as a user meets it."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
from afk_store_disk.store import DiskStore

from afkcli.core.contract.protocols import Record, RecordKind
from afkcli.core.thread.records import record_hash
from afkcli.testing.model_server import Fault, ModelServer, ScriptedCall, Step
from afkcli.testing.store_steps import acquired, save_turn
from tests.commands.conftest import on_terminal
from tests.e2e.shell import Shell, kill, wait_for_output


def fill(shell: Shell, threads: int) -> None:
    """Give a shell so many threads of one turn, the last one used last."""
    store = DiskStore(shell.home / "afk" / "data")
    for number in range(threads):
        lease = acquired(store, f"t-{number}")
        save_turn(store, lease, f"An {'odd' if number % 2 else 'even'} question", "Yes.", number)
        store.release(lease)
    store.close()


class TestList:
    def test_an_empty_list_is_empty_on_stdout_and_says_so_on_stderr(self, shell: Shell) -> None:
        done = shell.in_process("threads")
        assert (done.code, done.out) == (0, "")
        assert "there are no threads yet" in done.err

    def test_shows_the_last_used_first(self, talked: Shell) -> None:
        soup, trip = talked.in_process("threads").out.splitlines()
        assert soup.startswith("soup ")
        assert re.fullmatch(r"trip +(now|\d+ min) +2 +completed +openai/gpt-5\.2-mini +(-|\$[\d.]+) +To Paris", trip)

    def test_in_json_is_one_object_a_line_with_the_words_of_the_events(self, talked: Shell) -> None:
        soup, trip = talked.in_process("threads", "--json").events
        assert (trip["thread_id"], trip["turns"], trip["state"], trip["title"]) == ("trip", 2, "completed", "To Paris")
        assert trip["usage"]["total_tokens"] == 38
        assert soup["thread_key"] != trip["thread_key"]

    def test_is_limited_searched_and_of_this_folder(self, talked: Shell, tmp_path: Path) -> None:
        assert len(talked.in_process("threads", "-n", "1").out.splitlines()) == 1
        assert talked.in_process("threads", "-q", "onion SOUP").out.startswith("soup")
        nothing = talked.in_process("threads", "--search", "carrots")
        assert (nothing.code, nothing.out) == (0, "")
        assert "no thread matches" in nothing.err
        assert len(talked.in_process("threads", "--here", "--json").events) == 2
        talked.folder = tmp_path
        assert talked.in_process("threads", "--here").out == ""

    @pytest.mark.parametrize(
        "title",
        [
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u06a9\u062a\u0627\u0628",  # Persian
            "\u0915\u094d\u200d\u0937",  # Hindi
            "\U0001f468\u200d\U0001f469\u200d\U0001f467 and \u2764\ufe0f\u200d\U0001f525",
        ],
    )
    def test_a_title_keeps_the_joiners_of_its_words(self, keyed: Shell, title: str) -> None:
        keyed.in_process("run", "-t", "t", title)

        assert title in keyed.in_process("threads").out
        assert title in keyed.in_process("threads", "search", title.split()[0]).out
        assert title in on_terminal(keyed, "threads")[1]
        assert keyed.in_process("run", "-t", "", _AFK_COMPLETE="zsh").out == f"plain\tt\t{title}\n"

    def test_a_title_shows_other_characters_without_width(self, keyed: Shell) -> None:
        keyed.in_process("run", "-t", "t", "a\u200db \u200cc d\u200b\ufeff\u200d")

        assert "a<U+200D>b <U+200C>c d<U+200B><U+FEFF><U+200D>" in keyed.in_process("threads").out

    def test_on_a_terminal_has_a_head_and_fits_the_width(self, keyed: Shell) -> None:
        keyed.in_process("run", "-t", "wide", "日本語 " * 60)
        code, seen = on_terminal(keyed, "threads", NO_COLOR="1", columns=80)
        head, row = seen.split("\r\n")[:2]
        assert code == 0
        assert head.split() == ["NAME", "USED", "TURNS", "COST", "TITLE"]
        assert row.endswith("…")
        assert "\x1b" not in seen

    def test_on_a_terminal_shows_what_fits_and_how_many_more_there_are(self, shell: Shell) -> None:
        fill(shell, 60)
        code, seen = on_terminal(shell, "threads", NO_COLOR="1", LINES="20")
        *lines, last = seen.rstrip("\r\n").split("\r\n")
        assert code == 0
        assert [line.split()[0] for line in lines] == ["NAME", *(f"t-{number}" for number in range(59, 42, -1))]
        assert last == "afk: 43 more; use --all or -n N"

    @pytest.mark.parametrize(("options", "rows"), [(("--all",), 60), (("-n", "40"), 40), (("-q", "t-1"), 11)])
    def test_on_a_terminal_shows_all_that_was_asked_for(
        self, shell: Shell, options: tuple[str, ...], rows: int
    ) -> None:
        fill(shell, 60)
        _, seen = on_terminal(shell, "threads", *options, typed=b"\n" * 5, NO_COLOR="1", LINES="20")
        assert seen.count("question") == rows
        assert "more;" not in seen

    @pytest.mark.parametrize("lines", ["1", "2", "3", "4"])
    def test_on_a_terminal_of_few_lines_shows_a_thread(self, shell: Shell, lines: str) -> None:
        fill(shell, 3)
        _, seen = on_terminal(shell, "threads", NO_COLOR="1", LINES=lines)
        assert [line.split()[0] for line in seen.splitlines()] == ["NAME", "t-2", "afk:"]

    def test_counts_what_was_asked_for(self, shell: Shell) -> None:
        fill(shell, 60)
        _, seen = on_terminal(shell, "threads", "-q", "even", NO_COLOR="1", LINES="20")
        assert "afk: 13 more;" in seen

    def test_in_a_pipe_and_in_json_has_all_threads(self, shell: Shell) -> None:
        fill(shell, 500)  # more than are read in one go
        names = [f"t-{number}" for number in range(499, -1, -1)]
        assert [line.split()[0] for line in shell.in_process("threads", LINES="20").out.splitlines()] == names
        assert [line["thread_id"] for line in shell.in_process("threads", "--json").events] == names

    def test_limit_and_all_together_are_refused(self, shell: Shell) -> None:
        assert shell.in_process("threads", "--all", "-n", "3").code == 2

    @pytest.mark.parametrize(
        ("begun", "names"), [("t-5", ["t-5"]), ("t", ["t-5", "t-4", "t-3", "t-2", "t-1", "t-0"]), ("x", []), ("%", [])]
    )
    def test_the_tab_key_completes_names_the_last_used_first(self, shell: Shell, begun: str, names: list[str]) -> None:
        fill(shell, 6)
        done = shell.afk(_AFK_COMPLETE="bash_complete", COMP_WORDS=f"afk threads show {begun}", COMP_CWORD="3")
        assert [line.partition(",")[2] for line in done.out.split()] == names

    def test_imports_no_provider_and_no_sdk(self, talked: Shell, tmp_path: Path) -> None:
        script = tmp_path / "modules.py"
        script.write_text(
            "import os, sys\nfrom afkcli.cli import main\nsys.argv = ['afk', 'threads']\nos._exit = sys.exit\n"
            "try:\n    main()\nexcept SystemExit:\n    pass\n"
            "print(sorted({name.partition('.')[0] for name in sys.modules}))\n"
        )
        talked.cold = True
        modules = talked.python(script).out.splitlines()[-1]
        assert "'afk_store_disk'" in modules
        for name in ("openai", "httpx", "pydantic", "xllamacpp", "afk_provider_openai", "afk_sink_jsonl"):
            assert f"'{name}'" not in modules

    def test_a_closed_pipe_ends_it_by_sigpipe_without_a_message(self, talked: Shell) -> None:
        process = talked.start("threads", "--json")
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == -signal.SIGPIPE
        assert process.stderr is not None
        assert process.stderr.read() == b""

    def test_options_of_the_list_before_a_subcommand_are_refused(self, shell: Shell) -> None:
        assert shell.in_process("threads", "--json", "show", "x").code == 2


class TestShow:
    def test_is_the_conversation(self, talked: Shell) -> None:
        out = talked.in_process("threads", "show", "trip").out
        assert out.index("user: To Paris") < out.index("assistant: reply 1: To Paris") < out.index("user: By train")

    def test_in_json_is_one_object_a_turn(self, talked: Shell) -> None:
        first, second = talked.in_process("threads", "show", "trip", "--json").events
        assert (first["turn"], second["turn"], first["state"]) == (1, 2, "completed")
        assert [message["role"] for message in first["messages"]] == ["user", "assistant"]
        assert first["note"] is None

    def test_has_tool_calls_with_their_results(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(tool_calls=[ScriptedCall(name="weather", arguments={"city": "Paris"})]), Step(text="Rain."))
        keyed.in_process("run", "-t", "tools", "Weather?")
        out = keyed.in_process("threads", "show", "tools").out
        assert 'tool call: weather {"city":"Paris"}' in out
        assert "tool error: weather:" in out  # the agent has no tools, and the model gets an error that says so

    def test_names_a_cut_and_its_state(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text=["Half an ", "answer"], fault=Fault.CUT, fault_after=1))
        assert keyed.in_process("run", "-t", "cut", "Go on").code == 4
        (turn,) = keyed.in_process("threads", "show", "cut", "--json").events
        assert (turn["state"], turn["error_kind"]) == ("failed", "truncated")
        assert "cut off here" in turn["note"]
        assert "Half an" in keyed.in_process("threads", "show", "cut").out

    def test_says_that_a_refused_question_is_left_out(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(status=400, body={"error": {"message": "no such thing", "type": "invalid_request_error"}}))
        assert keyed.in_process("run", "-t", "refused", "Hm").code == 4
        assert "left out of what the next turn sends" in keyed.in_process("threads", "show", "refused").out

    def test_on_a_terminal_shows_escape_sequences_as_text(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text="\x1b]0;owned\x07 hi"))
        keyed.in_process("run", "-t", "evil", "x")
        _, seen = on_terminal(keyed, "threads", "show", "evil", NO_COLOR="1")
        assert "\x1b" not in seen
        assert "␛]0;owned␇ hi" in seen

    @pytest.mark.parametrize(
        ("name", "said"), [("tripp", "'trip'"), ("zzz", "`afk threads` lists"), ("a\nb", "not printable")]
    )
    def test_of_an_unknown_thread_is_exit_2_with_near_names(self, talked: Shell, name: str, said: str) -> None:
        done = talked.in_process("threads", "show", name)
        assert (done.code, done.out) == (2, "")
        assert said in done.err
        assert done.err.count("\n") == 1


class TestRunsThatDoNotEnd:
    def test_are_shown_running_and_may_not_be_touched(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text=["So far ", "so good"], fault=Fault.HANG, fault_after=1))
        process = keyed.start("run", "-t", "busy", "Go")
        wait_for_output(process, b"So far")
        assert keyed.in_process("threads", "--json").events[0]["state"] == "running"
        assert keyed.in_process("threads", "show", "busy", "--json").events[0]["state"] == "running"
        for command in (("rm", "-y", "busy"), ("rename", "busy", "other")):
            done = keyed.in_process("threads", *command)
            assert done.code == 5
            assert "in use" in done.err
        assert keyed.in_process("threads", "export", "busy").code == 0
        server.release()
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert keyed.in_process("threads", "--json").events[0]["state"] == "completed"

    @pytest.mark.parametrize("command", [("threads", "--json"), ("threads", "show", "dead", "--json")])
    def test_are_sealed_as_interrupted_once_they_are_dead(
        self, keyed: Shell, server: ModelServer, command: tuple[str, ...]
    ) -> None:
        server.script(Step(text=["Last ", "words"], fault=Fault.HANG, fault_after=1))
        process = keyed.start("run", "-t", "dead", "Go")
        wait_for_output(process, b"Last")
        kill(process)
        assert keyed.in_process(*command).events[0]["state"] == "interrupted"
        records = [row for row in keyed.in_process("threads", "export", "dead").events if row["type"] == "record"]
        assert [record["kind"] for record in records] == ["seal"]
        server.release()


class TestRemove:
    def test_without_a_terminal_needs_yes_and_deletes_nothing(self, talked: Shell) -> None:
        done = talked.in_process("threads", "rm", "trip")
        assert done.code == 2
        assert "--yes" in done.err
        assert len(talked.in_process("threads").out.splitlines()) == 2

    def test_deletes_several_and_says_so(self, talked: Shell) -> None:
        done = talked.in_process("threads", "rm", "--yes", "trip", "soup", "--json")
        assert done.code == 0
        assert [row["thread_id"] for row in done.events] == ["trip", "soup"]
        assert talked.in_process("threads").out == ""

    def test_an_unknown_name_deletes_no_thread(self, talked: Shell) -> None:
        assert talked.in_process("threads", "rm", "-y", "trip", "nope").code == 2
        assert len(talked.in_process("threads").out.splitlines()) == 2

    @pytest.mark.parametrize(("typed", "left"), [(b"n\n", 2), (b"y\n", 1)])
    def test_asks_on_a_terminal(self, talked: Shell, typed: bytes, left: int) -> None:
        code, seen = on_terminal(talked, "threads", "rm", "trip", typed=typed)
        assert code == 0
        assert "Delete the thread 'trip' (2 turns)?" in seen
        assert len(talked.in_process("threads").out.splitlines()) == left


class TestRename:
    def test_keeps_the_identity_and_the_conversation(self, talked: Shell, server: ModelServer) -> None:
        key = talked.in_process("threads", "-q", "paris", "--json").events[0]["thread_key"]
        assert talked.in_process("threads", "rename", "trip", "Île de France").code == 0
        renamed = talked.in_process("threads", "-q", "paris", "--json").events[0]
        assert (renamed["thread_id"], renamed["thread_key"]) == ("Île de France", key)
        assert talked.in_process("run", "-t", "Île de France", "And then?").code == 0
        assert len(server.bodies[-1]["messages"]) >= 5
        assert talked.in_process("threads", "show", "Île de France").err == ""  # the chain of records holds

    @pytest.mark.parametrize("new", ["soup", "trip", "-x", "a" * 201, "", "a\x1bb"])
    def test_to_a_name_that_cannot_be_is_exit_2(self, talked: Shell, new: str) -> None:
        done = talked.in_process("threads", "rename", "--", "trip", new)
        assert done.code == 2
        assert done.err.count("\n") == 1
        assert len(talked.in_process("threads", "-q", "paris").out.splitlines()) == 1


class TestThreadsThatANewerAfkChanged:
    @pytest.fixture
    def changed(self, talked: Shell) -> Shell:
        """The thread `trip` has a meta record of a kind that this afk does not know."""
        script = talked.home / "newer.py"
        script.write_text(
            "from dataclasses import replace\n"
            "from afkcli.commands.thread_access import opened_store\n"
            "from afkcli.core.contract.protocols import RecordKind\n"
            "from afkcli.core.thread.records import advance, next_record\n"
            "from afkcli.testing.store_steps import acquired, save\n"
            "with opened_store() as store:\n"
            "    lease = acquired(store, 'trip')\n"
            "    body = {'v': 1, 'kind': 'merged', 'turns': [2]}\n"
            "    record = next_record(lease.thread, RecordKind.META, 2, body)\n"
            "    store.release(save(store, lease, (advance(lease.thread, record), record)))\n"
        )
        assert talked.python(script).code == 0
        return talked

    @pytest.mark.parametrize(
        "command",
        [
            ("run", "-t", "trip", "And then?"),
            ("threads", "resume", "trip"),
            ("threads", "rename", "trip", "other"),
            ("threads", "show", "trip"),
        ],
    )
    def test_are_refused_with_the_next_step_and_left_unchanged(
        self, changed: Shell, server: ModelServer, command: tuple[str, ...]
    ) -> None:
        before = changed.afk("threads", "export", "trip").out
        done = changed.afk(*command)
        assert (done.code, done.out) == (1, "")
        line = r"afk: record \d+ of thread 'trip' was written by a newer afk \(.*'merged', version 1\): upgrade afk\n"
        assert re.fullmatch(line, done.err)
        assert server.bodies == []
        assert changed.afk("threads", "export", "trip").out == before

    def test_are_listed_and_can_be_deleted(self, changed: Shell) -> None:
        assert [row["thread_id"] for row in changed.afk("threads", "--json").events] == ["soup", "trip"]
        assert changed.afk("threads", "rm", "-y", "trip").code == 0
        assert [row["thread_id"] for row in changed.afk("threads", "--json").events] == ["soup"]

    def test_are_exported_without_loss_and_refused_by_the_import(self, changed: Shell) -> None:
        exported = changed.afk("threads", "export", "trip")
        assert exported.code == 0
        assert "an import will refuse it" in exported.err
        assert json.loads(exported.events[-2]["body"]) == {"v": 1, "kind": "merged", "turns": [2]}
        assert changed.afk("threads", "rm", "-y", "trip").code == 0
        imported = changed.afk("threads", "import", stdin=exported.out.encode())
        assert imported.code == 2
        assert "upgrade afk" in imported.err
        assert len(changed.afk("threads").out.splitlines()) == 1


class TestExport:
    def test_is_lossless_and_its_hashes_can_be_checked(self, talked: Shell) -> None:
        talked.in_process("threads", "rename", "trip", "journey")
        head, *rows, end = talked.in_process("threads", "export", "journey").events
        assert (head["v"], head["type"], head["thread"]["name"]) == (1, "thread", "journey")
        assert [row["kind"] for row in rows] == ["seal", "seal", "meta"]
        previous = ""
        for row in rows:
            fields = {name: row[name] for name in ("index", "turn", "prev", "body", "hash")}
            record = Record(kind=RecordKind(row["kind"]), **fields)
            assert record_hash(head["thread"]["key"], record) == record.hash
            assert record.prev == previous
            previous = record.hash
        assert previous == head["thread"]["kept_head"]
        assert end == {"v": 1, "type": "end", "threads": 1}

    def test_goes_to_a_file_that_only_the_user_reads(self, talked: Shell, tmp_path: Path) -> None:
        talked.folder = tmp_path / "work"
        done = talked.in_process("threads", "export", "trip", "-o", "trip.jsonl")
        path = talked.folder / "trip.jsonl"
        assert (done.code, done.out) == (0, "")
        assert path.stat().st_mode & 0o777 == 0o600
        assert len([json.loads(line) for line in path.read_text().splitlines()]) == 4
        assert [item.name for item in talked.folder.iterdir()] == ["trip.jsonl"]

    def test_to_a_folder_that_is_not_there_is_exit_2(self, talked: Shell) -> None:
        done = talked.in_process("threads", "export", "trip", "-o", "no/such/file")
        assert done.code == 2
        assert "cannot be written" in done.err

    def test_a_record_too_long_for_a_line_is_named_and_costs_nothing_else(self, keyed: Shell) -> None:
        keyed.in_process("run", "-t", "first", "hi")
        script = keyed.folder / "long.py"
        script.write_text(
            "from afkcli.commands.thread_access import opened_store\n"
            "from afkcli.core.contract.messages import Role, text_message\n"
            "from afkcli.testing.store_steps import acquired, save, with_seal\n"
            "with opened_store() as store:\n"
            "    lease = acquired(store, 'long')\n"
            "    said = [text_message(Role.USER, 'q'), text_message(Role.ASSISTANT, '\"' * (17 << 20))]\n"
            "    store.release(save(store, lease, with_seal(lease.thread, said)))\n"
        )
        assert keyed.python(script).code == 0
        keyed.in_process("run", "-t", "last", "hi")

        one = keyed.in_process("threads", "export", "long")
        every = keyed.in_process("threads", "export", "--all")
        file = keyed.in_process("threads", "export", "--all", "-o", "all.jsonl")

        line = (
            "afk: record 0 (turn 0) of the thread 'long' is left out of the export: its 34 MB are too much for a line"
        )
        assert (one.code, one.err.startswith(line), one.err.count("\n")) == (0, True, 1)
        assert [row["type"] for row in one.events] == ["thread", "left_out", "end"]
        assert (every.code, every.err) == (0, one.err)
        assert [row["thread"]["name"] for row in every.events if row["type"] == "thread"] == ["first", "long", "last"]
        assert every.events[-1] == {"v": 1, "type": "end", "threads": 3}
        assert (file.code, file.err) == (0, f"{one.err}afk: wrote all.jsonl\n")
        assert (keyed.folder / "all.jsonl").read_text() == every.out
        assert keyed.in_process("threads", "export", "long", "--format", "markdown", "-o", "long.md").code == 0

    def test_markdown_has_what_is_set_aside_if_it_is_asked_for_and_json_always(self, talked: Shell) -> None:
        talked.in_process("threads", "undo", "trip")

        seen = talked.in_process("threads", "export", "trip", "--format", "markdown").out
        every = talked.in_process("threads", "export", "trip", "--format", "markdown", "--all").out
        lines = talked.in_process("threads", "export", "trip").out

        assert "By train" not in seen
        assert "By train" in every
        assert "undone; it is not sent" in every
        assert "By train" in lines
        other = Shell(home=talked.home.with_name("elsewhere"), folder=talked.folder)
        other.home.mkdir()
        assert other.in_process("threads", "import", stdin=lines.encode()).code == 0
        assert other.in_process("threads", "export", "trip", "--format", "markdown").out == seen
        assert other.in_process("threads", "export", "trip", "--format", "markdown", "--all").out == every

    def test_as_markdown_is_for_people(self, talked: Shell) -> None:
        out = talked.in_process("threads", "export", "trip", "--format", "markdown").out
        assert out.startswith("# To Paris\n")
        assert "## Turn 2" in out
        assert "reply 2: By train" in out
