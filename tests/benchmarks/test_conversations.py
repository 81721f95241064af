"""How the conversations of peers are made long."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from operator import attrgetter
from pathlib import Path

import pytest

from benchmarks.cases import thread
from benchmarks.measure import Measured
from benchmarks.peers.conversations import UnknownFormError, lengthen
from benchmarks.programs.long_thread import ANSWER, QUESTION

TABLES = """
CREATE TABLE messages (hash TEXT PRIMARY KEY, parent_hash TEXT, role TEXT);
CREATE TABLE parts (id INTEGER PRIMARY KEY, message_hash TEXT, position INTEGER, type TEXT, text TEXT);
CREATE TABLE threads (id TEXT PRIMARY KEY, tip_message_hash TEXT);
CREATE TABLE turns (id TEXT PRIMARY KEY, tip_message_hash TEXT);
INSERT INTO messages VALUES ('a', NULL, 'user'), ('b', 'a', 'assistant');
INSERT INTO parts (message_hash, position, type, text) VALUES ('a', 0, 'text', 'hi'), ('b', 0, 'text', 'word');
INSERT INTO threads VALUES ('t', 'b');
INSERT INTO turns VALUES ('u', 'b');
"""
CHAIN = """
WITH RECURSIVE chain (hash, depth) AS (
    SELECT tip_message_hash, 0 FROM threads
    UNION ALL SELECT parent_hash, depth + 1 FROM messages JOIN chain USING (hash) WHERE parent_hash NOT NULL
)
SELECT role, text FROM chain JOIN messages USING (hash) JOIN parts ON message_hash = hash ORDER BY depth DESC
"""


def test_chain_of_llm_goes_from_the_first_question_to_the_last_answer(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "logs.db")) as database:
        database.executescript(TABLES)
        lengthen("llm", {"LLM_USER_PATH": str(tmp_path)}, 2)
        assert database.execute(CHAIN).fetchall() == [
            ("user", "hi"),
            ("assistant", "word"),
            *[("user", QUESTION), ("assistant", ANSWER)] * 2,
        ]
        assert (
            database.execute("SELECT tip_message_hash FROM threads").fetchall()
            == database.execute("SELECT tip_message_hash FROM turns").fetchall()
        )


def test_session_of_codex_has_the_messages_behind_the_answer_and_keeps_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "sessions" / "2026" / "rollout-1.jsonl"
    file.parent.mkdir(parents=True)
    lines = [
        {"ordinal": 0, "type": "session_meta", "payload": {"id": "s"}},
        _message(1, "user", "input_text", "hi"),
        _message(2, "assistant", "output_text", "word"),
        {"ordinal": 3, "type": "event_msg", "payload": {"type": "task_complete"}},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    lengthen("codex", {"CODEX_HOME": str(tmp_path)}, 2)
    made = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["ordinal"] for line in made] == list(range(8))
    assert (made[:3], made[-1]["payload"]) == (lines[:3], lines[3]["payload"])
    messages = [line["payload"] for line in made[3:-1]]
    texts = [(message["role"], message["content"][0]["type"], message["content"][0]["text"]) for message in messages]
    assert texts == [("user", "input_text", QUESTION), ("assistant", "output_text", ANSWER)] * 2
    assert len({message["id"] for message in messages}) == 4


def _message(ordinal: int, role: str, kind: str, text: str) -> dict[str, object]:
    payload = {"type": "message", "id": f"m{ordinal}", "role": role, "content": [{"type": kind, "text": text}]}
    return {"ordinal": ordinal, "type": "response_item", "payload": payload}


@pytest.mark.parametrize("name", ["llm", "codex"])
def test_other_form_is_named(tmp_path: Path, name: str) -> None:
    sqlite3.connect(tmp_path / "logs.db").close()
    with pytest.raises(UnknownFormError, match=f"the conversations of {name} have another form"):
        lengthen(name, {"LLM_USER_PATH": str(tmp_path), "CODEX_HOME": str(tmp_path)}, 2)


def test_message_costs_what_a_long_turn_takes_more_than_a_short_one() -> None:
    def cpu(*seconds: float) -> list[Measured]:
        return [
            Measured(wall=0, to_request=0, cpu_to_request=0, after_request=0, after_first=0, cpu=each, peak=0)
            for each in seconds
        ]

    messages = 2 * (thread.LONG_TURNS - thread.SHORT_TURNS)
    added = thread._added({"long a": cpu(1.5, 2), "short a": cpu(0.5, 0.5), "short b": cpu(1)}, attrgetter("cpu"))
    assert added == {"a": [pytest.approx(1000 / messages), pytest.approx(1500 / messages)]}
