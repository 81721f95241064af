"""`afk threads search`, as a user meets it."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import unicodedata
from contextlib import closing
from pathlib import Path

import pytest
from afk_store_disk.store import DiskStore

from afkcli.testing.model_server import ModelServer, ScriptedCall, Step
from afkcli.testing.store_steps import acquired, save_turn
from tests.commands.conftest import on_terminal
from tests.e2e.shell import AFK, LIMIT, Shell


def found(shell: Shell, *arguments: str) -> list[tuple[str, int | None, str]]:
    """Return thread, turn and kind of what a search finds, in its order."""
    done = shell.in_process("threads", "search", "--json", *arguments)
    assert done.code == 0, done.err
    return [(row["thread_id"], row["turn"], row["kind"]) for row in done.events]


def test_a_pipe_gets_a_line_for_each_turn(talked: Shell) -> None:
    done = talked.in_process("threads", "search", "paris")
    (line,) = done.out.splitlines()
    assert re.fullmatch(r"trip +1 +\d{4}-\d\d-\d\d \d\d:\d\d +question +To Paris", line)
    assert done.err == ""


def test_json_has_an_object_for_each_turn(talked: Shell) -> None:
    (row,) = talked.in_process("threads", "search", "TRAIN", "--json").events
    assert (row["v"], row["type"], row["thread_id"], row["turn"]) == (1, "found", "trip", 2)
    assert (row["text"], row["marked"], row["left_out"]) == ("By train", [[3, 8]], None)
    assert row["date"].endswith("Z")


def test_a_terminal_gets_the_words_marked(talked: Shell) -> None:
    code, seen = on_terminal(talked, "threads", "search", "onion")
    assert code == 0
    head, text, *_ = seen.split("\r\n")
    assert re.match(r"\x1b\[1msoup\x1b\[0m · turn 1 · \d{4}-\d\d-\d\d \d\d:\d\d · question$", head)
    assert text == "    \x1b[1;33mOnion\x1b[0m soup"


@pytest.mark.parametrize("columns", [80, 40, 20])
def test_a_terminal_without_colours_gets_what_fits(keyed: Shell, columns: int) -> None:
    keyed.in_process("run", "-t", "long " * 30, "filler " * 40 + "日本の needle " * 30 + "\x1b[31m red")
    code, seen = on_terminal(keyed, "threads", "search", "needle", NO_COLOR="1", columns=columns)
    assert code == 0
    assert "\x1b" not in seen
    assert "need" in seen
    for line in seen.splitlines():
        assert sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in line) <= columns


def test_a_terminal_gets_the_short_name_of_an_unnamed_thread(keyed: Shell) -> None:
    keyed.in_process("run", "A needle without a name")
    ((name, *_),) = found(keyed, "needle")
    _, seen = on_terminal(keyed, "threads", "search", "needle", NO_COLOR="1")
    short = seen.split()[0]
    assert name.endswith(short)
    assert len(short) < 12
    assert keyed.in_process("threads", "show", short).code == 0


def test_a_pipe_and_json_have_no_escape_sequences_of_ours(talked: Shell) -> None:
    talked.env["TERM"] = "xterm"
    for options in ((), ("--json",)):
        assert "\x1b" not in talked.in_process("threads", "search", "paris", *options).out


def test_names_titles_tags_questions_answers_and_tools_are_found(keyed: Shell, server: ModelServer) -> None:
    server.script(
        Step(tool_calls=[ScriptedCall(name="weather", arguments={"city": "Reykjavik"})]), Step(text="Fog and drizzle.")
    )
    keyed.in_process("run", "-t", "forecast", "Weather please?")
    keyed.in_process("threads", "tag", "forecast", "iceland")
    assert found(keyed, "forecast") == [("forecast", None, "name")]
    assert found(keyed, "iceland") == [("forecast", None, "tag")]
    assert found(keyed, "please") == [("forecast", 1, "question")]
    assert found(keyed, "drizzle") == [("forecast", 1, "answer")]
    assert found(keyed, "reykjavik") == [("forecast", 1, "tool")]
    assert found(keyed, "iceland", "drizzle") == [("forecast", 1, "answer")]


def test_words_of_several_turns_find_their_thread_after_those_of_one(talked: Shell) -> None:
    assert found(talked, "paris train") in ([("trip", 1, "question")], [("trip", 2, "question")])
    talked.in_process("run", "-t", "both", "The train to Paris")
    assert [thread for thread, *_ in found(talked, "paris", "train")] == ["both", "trip"]


def test_nothing_found_is_said_on_stderr_and_no_error(talked: Shell) -> None:
    done = talked.in_process("threads", "search", "carrots", "--json")
    assert (done.code, done.out, done.err) == (0, "", "afk: no turn has this word\n")
    assert talked.in_process("threads", "search", "carrots", "peas").err == "afk: no turn has these words\n"


def test_the_best_are_shown_and_that_there_are_more(shell: Shell) -> None:
    store = DiskStore(shell.home / "afk" / "data")
    for number in range(30):
        save_turn(store, acquired(store, f"t-{number}"), f"apple {number}", "answer", number)
    store.close()
    done = shell.in_process("threads", "search", "apple")
    assert len(done.out.splitlines()) == 20
    assert done.err == "afk: these are the best 20; `--limit N` shows more\n"
    done = shell.in_process("threads", "search", "apple", "-n", "30")
    assert (len(done.out.splitlines()), done.err) == (30, "")


def test_a_search_may_be_of_one_thread_and_of_a_time(talked: Shell) -> None:
    talked.in_process("run", "-t", "soup", "In Paris")
    assert [thread for thread, *_ in found(talked, "paris", "-t", "soup")] == ["soup"]
    assert found(talked, "paris", "--until", "2001-01-01") == []
    assert found(talked, "paris", "--since", "2w", "--thread", "trip") == [("trip", 1, "question")]
    assert talked.in_process("threads", "search", "paris", "-t", "nope").code == 2
    assert talked.in_process("threads", "search", "paris", "--since", "never").code == 2


def test_turns_that_are_set_aside_are_found_with_all_and_marked(talked: Shell) -> None:
    talked.in_process("threads", "undo", "trip")
    assert found(talked, "train") == []
    done = talked.in_process("threads", "search", "train", "--all", "--json")
    assert [row["left_out"] for row in done.events] == ["undone"]
    _, seen = on_terminal(talked, "threads", "search", "--all", "train", NO_COLOR="1")
    assert " · undone\r\n" in seen
    talked.in_process("threads", "redo", "trip")
    assert found(talked, "train") == [("trip", 2, "question")]


def test_a_fork_is_not_found_twice_and_stays_when_its_source_is_deleted(talked: Shell) -> None:
    talked.in_process("threads", "fork", "trip", "detour")
    assert found(talked, "paris") == [("trip", 1, "question")]
    talked.in_process("threads", "rm", "-y", "trip")
    assert found(talked, "paris") == [("detour", 1, "question")]


def test_what_was_imported_or_renamed_is_found(talked: Shell, tmp_path: Path) -> None:
    exported = tmp_path / "trip.jsonl"
    talked.in_process("threads", "export", "trip", "-o", str(exported))
    talked.in_process("threads", "rm", "-y", "trip")
    assert found(talked, "paris") == []
    talked.in_process("threads", "import", str(exported))
    talked.in_process("threads", "rename", "trip", "voyage")
    assert found(talked, "paris") == [("voyage", 1, "question")]


ODD = [
    b'"',
    b"'",
    b"NEAR(",
    b"a AND",
    b"OR",
    b"*",
    b"pa*",
    b"(",
    b"{a b}:c",
    b"^x",
    b"\\",
    b"%",
    b"_",
    b"\xff\xfe",
    b"caf\xe9",
    "日".encode(),
    "日本語".encode(),
    "שלום".encode(),
    "🙂".encode(),
    "\u202e".encode(),
    b"!?.,;:",
    b"\x01\x1b[31m",
    b"x" * 100_000,
    " ".join(f"w{number}" for number in range(20_000)).encode(),
]


@pytest.mark.parametrize("words", ODD, ids=lambda words: repr(words[:12]))
def test_a_query_of_any_bytes_is_data(talked: Shell, words: bytes) -> None:
    done = subprocess.run(
        [os.fsencode(AFK), b"threads", b"search", b"--json", b"--", words],
        cwd=talked.folder,
        env=talked.environment(),
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(b"\n") <= 1
    assert b"rror" not in done.stderr
    for line in done.stdout.splitlines():
        json.loads(line)


@pytest.mark.parametrize("words", [[], [""], ["  "], ["\t", "\n"]])
def test_a_search_for_nothing_is_a_usage_error(talked: Shell, words: list[str]) -> None:
    done = talked.in_process("threads", "search", *words)
    assert (done.code, done.out) == (2, "")


@pytest.mark.parametrize("word", ["日本", "本", "語の"])
def test_parts_of_a_text_without_blanks_are_found(keyed: Shell, word: str) -> None:
    keyed.in_process("run", "-t", "kanji", "これは日本語の質問です")
    (row,) = keyed.in_process("threads", "search", word, "--json").events
    start, end = row["marked"][0]
    assert row["text"][start:end] == word


def test_a_thread_that_a_newer_afk_changed_is_found_with_all(talked: Shell) -> None:
    from dataclasses import replace

    from afkcli.core.contract.protocols import RecordKind
    from afkcli.core.thread.records import advance, next_record
    from afkcli.testing.store_steps import save

    store = DiskStore(talked.home / "afk" / "data")
    lease = acquired(store, "trip")
    record = next_record(lease.thread, RecordKind.META, 2, {"v": 1, "kind": "from the future", "turns": [2]})
    store.release(save(store, lease, (replace(advance(lease.thread, record)), record)))
    store.close()
    assert found(talked, "train") == []
    (row,) = talked.in_process("threads", "search", "train", "--all", "--json").events
    assert row["left_out"] == "changed by a newer afk"


@pytest.mark.parametrize("step", [Step(text="It digs."), Step(status=400)])
def test_the_end_of_a_run_adds_its_turn_to_the_index_of_earlier_searches(
    talked: Shell, server: ModelServer, step: Step
) -> None:
    assert found(talked, "wombat") == []
    server.script(step)
    done = talked.afk("run", "-m", "gpt-5.2-mini", "-t", "animals", "What is a wombat?")
    assert (done.code == 0) == (step.status == 200), done.err
    with closing(sqlite3.connect(talked.home / "afk" / "data" / "search.db")) as con:
        rows = con.execute("SELECT count(*) FROM text WHERE question LIKE '%wombat%'").fetchone()
    assert rows == (1,)
