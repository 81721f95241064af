"""`afk threads import` of logs databases in the form of `llm`'s: what is odd, damaged or hostile in them.

Databases that the real program wrote are in `tests/e2e/test_llm_logs.py`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.shell import Finished, Shell

OLDER = """
CREATE TABLE conversations (id TEXT PRIMARY KEY, name TEXT, model TEXT);
CREATE TABLE responses (id TEXT PRIMARY KEY, model TEXT, prompt, system TEXT, response TEXT, conversation_id TEXT,
    duration_ms INTEGER, datetime_utc TEXT, input_tokens INTEGER, output_tokens INTEGER);
CREATE TABLE attachments (id TEXT PRIMARY KEY, type TEXT, path TEXT, url TEXT, content BLOB);
CREATE TABLE prompt_attachments (response_id TEXT, attachment_id TEXT, "order" INTEGER);
"""
NEWER = """
CREATE TABLE threads (id TEXT PRIMARY KEY, name TEXT, tip_message_hash TEXT);
CREATE TABLE turns (id TEXT PRIMARY KEY, thread_id TEXT, tip_message_hash TEXT, model TEXT, datetime_utc TEXT);
CREATE TABLE messages (hash TEXT PRIMARY KEY, parent_hash TEXT, role TEXT);
CREATE TABLE parts (id INTEGER PRIMARY KEY, message_hash TEXT, position INTEGER, type TEXT, tool_name TEXT, text TEXT,
    payload TEXT);
"""
AT = "2026-05-01T10:00:00.500000+00:00"
Change = Callable[[sqlite3.Connection], Any]


def respond(database: sqlite3.Connection, conversation: str, prompt: Any, response: Any, at: str = AT) -> str:
    """Add a response, and its conversation where that is new; return its id."""
    database.execute("INSERT OR IGNORE INTO conversations VALUES (?, ?, 'gpt-5.2')", (conversation, f"About {prompt}"))
    [count] = database.execute("SELECT count(*) FROM responses").fetchone()
    id_ = f"{conversation}-{count}"
    row = (id_, "gpt-5.2", prompt, None, response, conversation, 250, at, 12, 7)
    database.execute("INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    return id_


def say(database: sqlite3.Connection, hash_: str, parent: str | None, role: str, text: Any) -> None:
    """Add a message of one text."""
    database.execute("INSERT INTO messages VALUES (?, ?, ?)", (hash_, parent, role))
    database.execute("INSERT INTO parts (message_hash, position, type, text) VALUES (?, 0, 'text', ?)", (hash_, text))


def end(database: sqlite3.Connection, thread: str, tip: str) -> None:
    """Add a thread that ends at a message, and the turn of that message."""
    database.execute("INSERT INTO threads VALUES (?, ?, ?)", (thread, f"About {thread}", tip))
    database.execute("INSERT INTO turns VALUES (?, ?, ?, 'claude-sonnet-5-5', ?)", (f"turn-{tip}", thread, tip, AT))


def made(folder: Path, schema: str, *changes: Change) -> Path:
    path = folder / "logs.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(schema)
        for change in changes:
            change(database)
    return path


def import_(shell: Shell, *arguments: str) -> Finished:
    return shell.in_process("threads", "import", "logs.db", *arguments)


def turns(shell: Shell, name: str) -> list[dict[str, Any]]:
    return shell.in_process("threads", "show", name, "--json").events


def asked(shell: Shell, name: str) -> list[str]:
    return [turn["messages"][0]["parts"][0]["text"] for turn in turns(shell, name)]


def good(database: sqlite3.Connection) -> None:
    respond(database, "good", "beans", "Sow in May.")


class TestOlderTables:
    def test_turns_have_times_model_and_usage(self, shell: Shell) -> None:
        made(shell.folder, OLDER, good)

        assert import_(shell).err == "afk: 1 imported\n"

        [turn] = turns(shell, "about-beans")
        assert (turn["model"], turn["agent"], turn["state"]) == ("openai/gpt-5.2", "llm", "completed")
        assert (turn["started"], turn["sealed"]) == ("2026-05-01T10:00:00.500Z", "2026-05-01T10:00:00.750Z")
        assert (turn["usage"]["input_tokens"], turn["usage"]["output_tokens"]) == (12, 7)
        assert turn["total_cost_usd"] is None

    @pytest.mark.parametrize(
        ("prompt", "response", "what"),
        [(b"\x00\xff", "x", "prompt is not text but blob"), ("x", b"\xff", "response is not text but blob")],
    )
    def test_a_wrong_type_is_named_and_the_other_conversations_imported(
        self, shell: Shell, prompt: Any, response: Any, what: str
    ) -> None:
        made(shell.folder, OLDER, lambda database: respond(database, "bad", prompt, response), good)

        done = import_(shell)

        assert (done.code, done.out) == (2, "")
        assert f"afk: logs.db, conversation 'bad': response bad-0: {what}\n" in done.err
        assert done.err.endswith("afk: 1 imported, 1 refused\n")

    def test_text_that_is_not_utf_8_is_imported_as_far_as_it_is(self, shell: Shell) -> None:
        made(
            shell.folder,
            OLDER,
            lambda database: respond(database, "c", "beans", "x"),
            lambda database: database.execute("UPDATE responses SET response = CAST(X'6fff6b00' AS TEXT)"),
        )

        assert import_(shell).code == 0
        assert turns(shell, "about-beans")[0]["messages"][1]["parts"][0]["text"] == "o\ufffdk\0"

    def test_a_huge_value_refuses_its_conversation_alone(self, shell: Shell) -> None:
        made(shell.folder, OLDER, lambda database: respond(database, "bad", "huge", "x" * (65 << 20)), good)

        done = import_(shell)

        assert done.code == 2
        assert "conversation 'bad': it cannot be read: string or blob too big" in done.err
        assert asked(shell, "about-beans") == ["beans"]

    @pytest.mark.parametrize("at", ["", "yesterday", "2026-13-45", "99999-01-01T00:00:00Z", "0001-01-01T00:00:00"])
    def test_a_time_that_is_none_does_not_matter(self, shell: Shell, at: str) -> None:
        made(shell.folder, OLDER, lambda database: respond(database, "c", "beans", "x", at))

        assert import_(shell).code == 0
        assert import_(shell).err == "afk: 1 already present\n"

    def test_an_answer_that_is_missing_makes_an_interrupted_turn(self, shell: Shell) -> None:
        made(shell.folder, OLDER, lambda database: respond(database, "c", "beans", None))

        assert import_(shell).code == 0
        assert [turn["state"] for turn in turns(shell, "about-beans")] == ["interrupted"]

    def test_a_file_that_an_attachment_names_is_not_read(self, shell: Shell) -> None:
        canary = shell.folder / "canary.txt"
        canary.write_text("secret")

        def attach(database: sqlite3.Connection) -> None:
            id_ = respond(database, "c", "beans", "x")
            database.execute("INSERT INTO attachments VALUES ('a', 'text/plain', ?, NULL, NULL)", (str(canary),))
            database.execute("INSERT INTO prompt_attachments VALUES (?, 'a', 0)", (id_,))
            database.execute("INSERT INTO prompt_attachments VALUES (?, 'gone', 1)", (id_,))

        made(shell.folder, OLDER, attach)

        assert "attachments that llm keeps by their path or address alone (2)" in import_(shell).err
        assert "secret" not in shell.in_process("threads", "export", "--all").out

    def test_two_conversations_of_one_name_are_both_imported_with_rename(self, shell: Shell) -> None:
        made(
            shell.folder,
            OLDER,
            lambda database: respond(database, "c1", "beans", "x"),
            lambda database: respond(database, "c2", "beans", "y"),
        )

        refused = import_(shell)
        assert (refused.code, refused.err.count("already a thread 'about-beans'; --rename")) == (2, 1)
        assert import_(shell, "--rename").err.endswith("afk: 1 imported, 1 already present\n")


class TestNewerTables:
    def test_a_thread_is_the_path_to_its_last_message(self, shell: Shell) -> None:
        def talk(database: sqlite3.Connection) -> None:
            say(database, "s", None, "system", "Be brief.")
            say(database, "u", "s", "user", "beans?")
            say(database, "a", "u", "assistant", "May.")
            say(database, "u2", "a", "user", "and peas?")
            say(database, "a2", "u2", "assistant", "March.")
            say(database, "b2", "u2", "assistant", "April.")
            end(database, "main", "a2")
            end(database, "fork", "b2")

        made(shell.folder, NEWER, talk)

        assert import_(shell).err == "afk: 2 imported\n"
        for name, last in (("about-main", "March."), ("about-fork", "April.")):
            assert asked(shell, name) == ["beans?", "and peas?"]
            assert turns(shell, name)[1]["messages"][-1]["parts"][0]["text"] == last
            assert turns(shell, name)[1]["model"] == "anthropic/claude-sonnet-5-5"

    def test_a_conversation_of_both_forms_is_one_thread(self, shell: Shell) -> None:
        def upgraded(database: sqlite3.Connection) -> None:
            respond(database, "both", "beans", "May.")
            say(database, "u", None, "user", "beans")
            say(database, "a", "u", "assistant", "May.")
            say(database, "u2", "a", "user", "peas")
            say(database, "a2", "u2", "assistant", "March.")
            end(database, "both", "a2")

        made(shell.folder, OLDER, lambda database: respond(database, "both", "beans", "May."))
        assert import_(shell).err == "afk: 1 imported\n"
        (shell.folder / "logs.db").unlink()
        made(shell.folder, OLDER + NEWER, upgraded)

        assert import_(shell).err == "afk: 1 appended to their threads\n"
        assert asked(shell, "about-beans") == ["beans", "peas"]

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            ("UPDATE messages SET parent_hash = 'a' WHERE hash = 'u'", "comes before itself"),
            ("DELETE FROM messages WHERE hash = 'u'", "its message u is missing"),
            ("UPDATE messages SET role = 'wizard' WHERE hash = 'u'", "message u: unknown role 'wizard'"),
            ("UPDATE parts SET text = X'00' WHERE message_hash = 'u'", "message u: text is not text but blob"),
            ("UPDATE parts SET text = NULL, payload = '{' WHERE message_hash = 'u'", "payload is not a JSON object"),
            (
                "UPDATE parts SET text = NULL, payload = '{\"text_ref\": 1}' WHERE message_hash = 'u'",
                "text_ref is not a list of objects",
            ),
            (
                "UPDATE parts SET type = 'tool_call', payload = '{\"name\": []}' WHERE message_hash = 'a'",
                "message a: name is not text but list",
            ),
        ],
    )
    def test_what_is_wrong_is_named_and_the_other_threads_imported(self, shell: Shell, change: str, what: str) -> None:
        def talk(database: sqlite3.Connection) -> None:
            say(database, "u", None, "user", "beans?")
            say(database, "a", "u", "assistant", "May.")
            end(database, "bad", "a")
            say(database, "u2", None, "user", "peas?")
            end(database, "good", "u2")
            database.execute(change)

        made(shell.folder, NEWER, talk)

        done = import_(shell)

        assert (done.code, done.out) == (2, "")
        assert "afk: logs.db, conversation 'bad': " in done.err
        assert what in done.err
        assert asked(shell, "about-good") == ["peas?"]

    def test_a_part_of_an_unknown_type_is_counted(self, shell: Shell) -> None:
        def talk(database: sqlite3.Connection) -> None:
            say(database, "u", None, "user", "beans?")
            payload = json.dumps({"x": 1})
            database.execute(
                "INSERT INTO parts (message_hash, position, type, payload) VALUES ('u', 1, 'hologram', ?)", (payload,)
            )
            end(database, "t", "u")

        made(shell.folder, NEWER, talk)

        assert "parts of the type 'hologram' (1)" in import_(shell).err


class TestFile:
    @pytest.mark.parametrize(
        ("schema", "what"),
        [
            ("CREATE TABLE notes (id)", "not llm's"),
            ("CREATE VIEW responses AS SELECT 1; CREATE TABLE conversations (id)", "not llm's"),
        ],
    )
    def test_another_database_is_refused(self, shell: Shell, schema: str, what: str) -> None:
        made(shell.folder, schema)

        done = import_(shell)

        assert (done.code, done.out) == (2, "")
        assert what in done.err

    def test_a_damaged_database_is_refused_in_one_line(self, shell: Shell) -> None:
        path = made(shell.folder, OLDER, *[good] * 200)
        path.write_bytes(path.read_bytes()[:5000] + bytes(3000))

        done = import_(shell)

        assert (done.code, done.out) == (2, "")
        assert "logs.db: the database cannot be read: " in done.err

    def test_a_database_on_stdin_is_refused(self, shell: Shell) -> None:
        path = made(shell.folder, OLDER, good)

        done = shell.in_process("threads", "import", stdin=path.read_bytes())

        assert done.code == 2
        assert done.err == "afk: stdin: a database cannot be read from a pipe; name its file\nafk: 1 refused\n"

    @pytest.mark.parametrize("name", ["a b?mode=rwc&x=#1.db", "ü%41.db", "-x.db"])
    def test_a_path_of_any_characters_is_that_path(self, shell: Shell, name: str) -> None:
        made(shell.folder, OLDER, good).rename(shell.folder / name)

        assert shell.in_process("threads", "import", "--", name).err == "afk: 1 imported\n"
        assert [path.name for path in shell.folder.iterdir()] == [name]

    def test_nothing_is_written_to_it(self, shell: Shell) -> None:
        path = made(shell.folder, OLDER, good)
        before = path.read_bytes()
        path.chmod(0o400)

        assert import_(shell).code == 0

        assert path.read_bytes() == before
        assert [file.name for file in shell.folder.iterdir()] == ["logs.db"]

    def test_what_another_process_has_in_the_wal_is_imported(self, shell: Shell) -> None:
        path = made(shell.folder, OLDER, good)
        writer = sqlite3.connect(path, isolation_level=None)
        writer.execute("PRAGMA journal_mode = WAL")
        respond(writer, "later", "peas", "In March.")

        assert import_(shell).err == "afk: 2 imported\n"

        writer.close()
        assert asked(shell, "about-peas") == ["peas"]

    def test_a_database_that_a_process_has_locked_is_refused(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("afkcli.foreign.llm_database.BUSY_SECONDS", 0.01)
        path = made(shell.folder, OLDER, good)
        with closing(sqlite3.connect(path, isolation_level=None)) as writer:
            writer.execute("BEGIN EXCLUSIVE")

            done = import_(shell)

        assert (done.code, done.err.splitlines()[0]) == (
            2,
            "afk: logs.db: the database cannot be read: database is locked",
        )
