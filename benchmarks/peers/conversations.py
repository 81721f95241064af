"""Makes the conversation of a peer long, by the same messages that programs/long_thread.py gives afk.

These are the files of other programs, which may change with any version; then the peer is a row that says so.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.programs.long_thread import ANSWER, QUESTION

PAIR = (("user", QUESTION), ("assistant", ANSWER))


class UnknownFormError(Exception):
    """A peer keeps its conversations in another form; the message says what is different."""


def lengthen_llm(env: Mapping[str, str], pairs: int) -> None:
    """Put so many questions and answers behind the only thread of `llm`: a chain of messages, each with its parent."""
    with closing(sqlite3.connect(Path(env["LLM_USER_PATH"]) / "logs.db")) as database, database:
        [[tip]] = database.execute("SELECT tip_message_hash FROM threads").fetchall()
        for role, text in PAIR * pairs:
            parent, tip = tip, f"b2:{uuid.uuid4().hex}"
            database.execute("INSERT INTO messages (hash, parent_hash, role) VALUES (?, ?, ?)", (tip, parent, role))
            database.execute(
                "INSERT INTO parts (message_hash, position, type, text) VALUES (?, 0, 'text', ?)", (tip, text)
            )
        database.execute("UPDATE threads SET tip_message_hash = ?", (tip,))
        database.execute("UPDATE turns SET tip_message_hash = ?", (tip,))


def lengthen_codex(env: Mapping[str, str], pairs: int) -> None:
    """Put so many questions and answers behind the only session of codex: copies of the lines of its own."""
    [file] = Path(env["CODEX_HOME"], "sessions").rglob("rollout-*.jsonl")
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    at = {line["payload"]["role"]: place for place, line in enumerate(lines) if _is_message(line)}
    more = [_with_text(lines[at[role]], text) for role, text in PAIR * pairs]
    lines[at["assistant"] + 1 : at["assistant"] + 1] = more
    numbered = [{**line, "ordinal": number} for number, line in enumerate(lines)]
    file.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in numbered), encoding="utf-8")


def _is_message(line: dict[str, Any]) -> bool:
    return (line["type"], line["payload"].get("type")) == ("response_item", "message")


def _with_text(line: dict[str, Any], text: str) -> dict[str, Any]:
    [content] = line["payload"]["content"]
    return {**line, "payload": {**line["payload"], "id": f"msg_{uuid.uuid4()}", "content": [{**content, "text": text}]}}


LENGTHEN: dict[str, Callable[[Mapping[str, str], int], None]] = {"llm": lengthen_llm, "codex": lengthen_codex}


def lengthen(name: str, env: Mapping[str, str], pairs: int) -> None:
    """Make the only conversation of the peer `name` longer by so many questions and answers.

    Raises:
        UnknownFormError: its files are not what they were.
    """
    try:
        LENGTHEN[name](env, pairs)
    except (OSError, sqlite3.Error, ValueError, LookupError, TypeError) as error:
        raise UnknownFormError(f"the conversations of {name} have another form: {error!r}") from None
