"""`--attach` as a user meets it: real files, a real server, and what the model's API was sent."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from afkcli.testing.model_server import Fault, ModelServer, Step
from tests.e2e.shell import LIMIT, Shell, kill

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR and so on"
PDF = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"
NOTES = "Beans need sun. ``` Spinach does not.\n"
SENT_IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"}}
SENT_PDF = {
    "type": "file",
    "file": {"filename": "report.pdf", "file_data": f"data:application/pdf;base64,{base64.b64encode(PDF).decode()}"},
}
SENT_NOTES = {"type": "text", "text": f"Attached file: notes.txt\n````\n{NOTES}````\n\n"}


@pytest.fixture
def folder(keyed: Shell) -> Path:
    (keyed.folder / "photo.png").write_bytes(PNG)
    (keyed.folder / "report.pdf").write_bytes(PDF)
    (keyed.folder / "notes.txt").write_text(NOTES)
    return keyed.folder


@pytest.fixture
def web(folder: Path) -> Iterator[str]:
    """A web server that gives the files of the folder."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def content(server: ModelServer, number: int = -1, message: int = 0) -> Any:
    return server.bodies[number]["messages"][message]["content"]


def database(shell: Shell) -> sqlite3.Connection:
    return sqlite3.connect(shell.home / "afk" / "data" / "threads.db", isolation_level=None)


class TestWhatIsSent:
    def test_files_urls_and_stdin(self, keyed: Shell, server: ModelServer, folder: Path, web: str) -> None:
        sources = ("--attach", "photo.png", "--attach", f"{web}/report.pdf", "--attach", "-")
        done = keyed.afk("run", *sources, "what is it?", stdin=NOTES.encode())
        assert done.code == 0, done.err
        stdin = {"type": "text", "text": SENT_NOTES["text"].replace("notes.txt", "stdin")}
        assert content(server) == [SENT_IMAGE, SENT_PDF, stdin, {"type": "text", "text": "what is it?"}]

    def test_a_text_alone_is_text_as_every_server_takes_it(
        self, keyed: Shell, server: ModelServer, folder: Path
    ) -> None:
        keyed.afk("run", "--attach", "notes.txt", "what is it?")
        assert content(server) == SENT_NOTES["text"] + "what is it?"

    def test_the_next_turn_sends_it_again_when_the_file_is_gone(
        self, keyed: Shell, server: ModelServer, folder: Path
    ) -> None:
        keyed.afk("run", "-t", "t", "--attach", "photo.png", "--attach", "notes.txt", "what is it?")
        (folder / "photo.png").unlink()
        (folder / "notes.txt").write_text("other notes")
        assert keyed.afk("run", "-t", "t", "and now?").code == 0
        assert content(server, 1) == content(server, 0)
        assert content(server, 1)[:2] == [SENT_IMAGE, SENT_NOTES]

    def test_a_renamed_thread_and_a_fork_send_it_too(self, keyed: Shell, server: ModelServer, folder: Path) -> None:
        keyed.afk("run", "-t", "t", "--attach", "photo.png", "what is it?")
        assert keyed.afk("threads", "rename", "t", "other").code == 0
        server.script(Step(text=["one"], fault=Fault.HANG, fault_after=1), Step(text="two"))
        running = keyed.start("run", "-t", "other", "hold it")
        assert server.wait_for_requests(2, LIMIT)
        forked = keyed.afk("run", "-t", "other", "--busy", "fork", "and now?")
        kill(running)
        assert forked.code == 0, forked.err
        assert [content(server, number)[0] for number in (1, 2)] == [SENT_IMAGE] * 2

    def test_without_memory_nothing_of_it_reaches_the_disk(
        self, keyed: Shell, server: ModelServer, folder: Path
    ) -> None:
        assert keyed.afk("run", "--no-memory", "--attach", "photo.png", "what is it?").code == 0
        assert content(server)[0] == SENT_IMAGE
        assert not (keyed.home / "afk" / "data").exists()

    def test_the_events_and_the_log_tell_of_it_without_its_content(self, keyed: Shell, folder: Path) -> None:
        done = keyed.afk("run", "--json", "--attach", "photo.png", "what is it?")
        started = done.events[0]
        digest = hashlib.sha256(PNG).hexdigest()
        told = [{"name": "photo.png", "media_type": "image/png", "size": len(PNG), "sha256": digest}]
        assert (started["message"], started["attachments"]) == ("what is it?", told)
        assert base64.b64encode(PNG).decode() not in done.out
        assert keyed.log()[0]["attachments"] == told

    def test_the_thread_shows_what_was_attached(self, keyed: Shell, folder: Path) -> None:
        keyed.afk("run", "-t", "t", "--attach", "report.pdf", "what is it?")
        shown = keyed.afk("threads", "show", "t").out
        assert f"user: [file report.pdf, application/pdf, {len(PDF)} bytes, sha256 " in shown
        assert keyed.afk("threads").out.count("what is it?") == 1


class TestWhatIsKept:
    def test_a_run_that_is_killed_once_its_question_is_kept_has_kept_all(
        self, keyed: Shell, server: ModelServer, folder: Path
    ) -> None:
        server.script(Step(fault=Fault.HANG_BEFORE_HEADERS), Step(text="again"))
        running = keyed.start("run", "-t", "t", "--attach", "photo.png", "--attach", "notes.txt", "what is it?")
        assert server.wait_for_requests(1, LIMIT)
        kill(running)
        (folder / "photo.png").unlink()
        assert keyed.afk("run", "-t", "t", "and now?").code == 0
        assert content(server, 1)[:2] == [SENT_IMAGE, SENT_NOTES]

    def test_resuming_sends_it_again(self, keyed: Shell, server: ModelServer, folder: Path) -> None:
        server.script(Step(text=["one"], fault=Fault.HANG, fault_after=1), Step(text="two"))
        running = keyed.start("run", "-t", "t", "--attach", "photo.png", "what is it?")
        assert server.wait_for_requests(1, LIMIT)
        kill(running)
        assert keyed.afk("threads", "resume", "t").code == 0
        assert content(server, 1)[0] == SENT_IMAGE

    def test_what_is_attached_twice_is_stored_once(self, keyed: Shell, folder: Path) -> None:
        for message in ("one", "two"):
            keyed.afk("run", "-t", "t", "--attach", "photo.png", "--attach", "photo.png", message)
        with database(keyed) as con:
            assert con.execute("SELECT count(*) FROM Content").fetchone() == (1,)

    def test_a_deleted_thread_takes_it_along(self, keyed: Shell, folder: Path) -> None:
        keyed.afk("run", "-t", "t", "--attach", "photo.png", "one")
        assert keyed.afk("threads", "rm", "--yes", "t").code == 0
        with database(keyed) as con:
            assert con.execute("SELECT count(*) FROM Content").fetchone() == (0,)

    def test_a_damaged_content_is_named_and_never_sent(self, keyed: Shell, server: ModelServer, folder: Path) -> None:
        keyed.afk("run", "-t", "t", "--attach", "photo.png", "--attach", "notes.txt", "what is it?")
        with database(keyed) as con:
            con.execute("UPDATE Content SET data = ? WHERE data = ?", (PNG[:-1] + b"?", PNG))
        done = keyed.afk("run", "-t", "t", "and now?")
        assert done.code == 0
        assert "photo.png, attached to this thread, is left out: its content is damaged" in done.err
        sent = content(server, 1)
        assert sent.startswith("[image photo.png was attached here; its content is lost]\n\nAttached file: notes.txt")
        exported = keyed.afk("threads", "export", "t")
        assert "the content of photo.png in the thread 't' is damaged: " in exported.err
        assert [json.loads(line)["type"] for line in exported.out.splitlines()].count("content") == 1

    @pytest.mark.parametrize("value", [None, "text", 7])
    def test_a_planted_row_that_is_not_a_content_is_damage(
        self, keyed: Shell, server: ModelServer, folder: Path, value: object
    ) -> None:
        keyed.afk("run", "-t", "t", "--attach", "photo.png", "what is it?")
        with database(keyed) as con:
            con.execute("UPDATE Content SET data = ?", (value,))
        assert "its content is damaged" in keyed.afk("run", "-t", "t", "and now?").err

    def test_a_turn_that_cannot_be_saved_is_rescued_with_it(
        self, keyed: Shell, server: ModelServer, folder: Path
    ) -> None:
        (keyed.home / "afk").mkdir()
        (keyed.home / "afk" / "data").write_text("no folder")
        done = keyed.afk("run", "-t", "t", "--attach", "photo.png", "what is it?")
        assert done.code == 1, done.err
        [file] = (keyed.home / "afk" / "state" / "rescue").iterdir()
        (keyed.home / "afk" / "data").unlink()
        assert keyed.afk("threads", "import", str(file)).code == 0
        keyed.afk("run", "-t", "t", "and now?")
        assert content(server, 1)[0] == SENT_IMAGE


class TestExport:
    def test_an_import_into_another_home_exports_the_same_bytes(
        self, keyed: Shell, server: ModelServer, folder: Path
    ) -> None:
        keyed.afk("run", "-t", "one", "--attach", "photo.png", "--attach", "report.pdf", "what is it?")
        keyed.afk("run", "-t", "two", "--attach", "notes.txt", "what is it?")
        elsewhere = {"AFK_HOME": str(keyed.home / "elsewhere")}
        first = keyed.afk("threads", "export", "--all").out
        done = keyed.afk("threads", "import", stdin=first.encode(), **elsewhere)
        assert done.code == 0, done.err
        assert keyed.afk("threads", "export", "--all", **elsewhere).out == first
        assert keyed.afk("run", "-t", "one", "and now?", **elsewhere).code == 0
        assert content(server)[:2] == [SENT_IMAGE, SENT_PDF]

    def test_a_content_that_was_changed_is_refused_with_its_thread(self, keyed: Shell, folder: Path) -> None:
        keyed.afk("run", "-t", "t", "--attach", "photo.png", "what is it?")
        lines = [json.loads(line) for line in keyed.afk("threads", "export", "t").out.splitlines()]
        lines[-2]["data"] = base64.b64encode(b"<html>").decode()
        file = "".join(json.dumps(line) + "\n" for line in lines).encode()
        elsewhere = {"AFK_HOME": str(keyed.home / "elsewhere")}
        done = keyed.afk("threads", "import", stdin=file, **elsewhere)
        assert done.code == 2
        assert "the content of photo.png is damaged: its hash does not match" in done.err
        assert keyed.afk("threads", **elsewhere).out == ""

    def test_a_content_that_is_missing_is_named(self, keyed: Shell, folder: Path) -> None:
        keyed.afk("run", "-t", "t", "--attach", "photo.png", "what is it?")
        lines = keyed.afk("threads", "export", "t").out.splitlines(keepends=True)
        elsewhere = {"AFK_HOME": str(keyed.home / "elsewhere")}
        done = keyed.afk("threads", "import", stdin="".join([*lines[:-2], lines[-1]]).encode(), **elsewhere)
        assert done.code == 0
        assert "photo.png is not in stdin; the thread 't' was imported without it" in done.err


class TestModels:
    def test_a_model_that_cannot_take_it_is_not_asked(self, keyed: Shell, server: ModelServer, folder: Path) -> None:
        done = keyed.afk("run", "-t", "t", "-m", "local", "--attach", "photo.png", "what is it?")
        assert (done.code, done.out) == (2, "")
        [line] = done.err.splitlines()
        assert line.startswith("afk: photo.png cannot be attached: it is image/png, and local/")
        assert line.endswith(" takes text only; choose another model with -m")
        assert keyed.afk("threads").out == ""

    def test_a_refusal_by_an_unknown_server_is_shown_and_the_thread_continues(
        self, keyed: Shell, server: ModelServer, folder: Path
    ) -> None:
        server.script(Step(status=400, body={"error": {"message": "this model takes no images"}}), Step(text="yes"))
        done = keyed.afk("run", "-t", "t", "--attach", "photo.png", "what is it?")
        assert done.code == 4
        assert "this model takes no images" in done.err
        assert keyed.afk("run", "-t", "t", "are you there?").code == 0
        assert content(server, 1) == "are you there?"

    def test_a_thread_continues_with_a_model_that_cannot_take_it(self, keyed: Shell, folder: Path) -> None:
        keyed.afk("run", "-t", "t", "--attach", "photo.png", "what is it?")
        done = keyed.afk("run", "-t", "t", "-m", "local", "and now?")
        assert done.code == 0, done.err
        assert "photo.png, attached to this thread, is left out: local/" in done.err


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--attach", "nowhere.png", "q"), "nowhere.png cannot be attached: No such file or directory"),
            (("--attach", "", "q"), "`--attach` was given an empty name; give a file, a URL, or `-` for stdin"),
            (("--attach", ".", "q"), ". cannot be attached: it is a folder; name its files"),
            (("--attach", "/dev/zero", "q"), "/dev/zero cannot be attached: it is not a regular file; pipe it in with"),
            (("--attach", "ftp://host/x", "q"), "ftp://host/x cannot be attached: it is not an http or https URL"),
            (
                (
                    "--attach",
                    "-",
                ),
                "`--attach -` reads stdin, so give the message as an argument",
            ),
            (("--attach", "-", "-"), "`--attach -` reads stdin, so give the message as an argument"),
            (("--attach", "-", "-n", "q"), "`--attach -` reads stdin, which --no-stdin forbids"),
            (("--attach", "-", "--attach", "-", "q"), "`--attach -` was given twice"),
            (("--attach", "-", "q"), "stdin cannot be attached: it is empty"),
            (("--attach", "-", "--json", "--approvals", "stdin", "q"), "`--attach -` and `--approvals stdin` both"),
            (("--attach", "photo.png"), "no message was given; use afk run"),
        ],
    )
    def test_bad_input_is_one_line_and_runs_nothing(
        self, keyed: Shell, server: ModelServer, folder: Path, arguments: tuple[str, ...], said: str
    ) -> None:
        done = keyed.in_process("run", *arguments)
        assert (done.code, done.out) == (2, "")
        [line] = done.err.splitlines()
        assert said in line
        assert server.bodies == []
        assert keyed.in_process("threads").out == ""

    def test_stdin_that_is_too_long(self, keyed: Shell) -> None:
        done = keyed.in_process("run", "--attach", "-", "q", stdin=b"\xff" * (20 * 1024 * 1024 + 1))
        assert done.code == 2
        assert "stdin is longer than 20 MB" in done.err

    @pytest.mark.skipif(os.name != "posix", reason="names of any bytes are POSIX's")
    def test_no_name_moves_a_terminal(self, keyed: Shell, folder: Path) -> None:
        name = b"a\x1b[31m\n\xff.png"
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(PNG)
        done = keyed.in_process("run", "-t", "t", "--attach", os.fsdecode(name), "q")
        assert done.code == 0, done.err
        assert "[image a?[31m?\ufffd.png, image/png" in keyed.in_process("threads", "show", "t").out


def test_in_python(keyed: Shell, server: ModelServer, folder: Path) -> None:
    script = folder / "script.py"
    script.write_text(
        "from afkcli import Agent, Attachment, Runner\n"
        "attachments = [Attachment.from_path('photo.png'), Attachment(data=b'beans', name='list')]\n"
        "print(Runner().run_sync(Agent(), user_message='q', thread_id='t', attachments=attachments).state)\n"
    )
    done = keyed.python(script)
    assert (done.code, done.out) == (0, "completed\n"), done.err
    assert content(server)[0] == SENT_IMAGE
    assert keyed.afk("run", "-t", "t", "and now?").code == 0
    assert content(server, 1) == content(server, 0)
