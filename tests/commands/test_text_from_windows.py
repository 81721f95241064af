"""Text that Windows tools saved: a byte order mark in front, CR LF at the end, UTF-16 from an old PowerShell."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from typing import Any

import pytest

from afkcli.testing.model_server import ModelServer
from tests.commands.test_thread_import import elsewhere
from tests.e2e.shell import Shell, roles_and_texts

FORMS: dict[str, Callable[[str], bytes]] = {
    "with a UTF-8 mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "with CR LF at its end": lambda text: f"{text}\r\n\r\n".encode(),
    "with a mark and CR LF": lambda text: codecs.BOM_UTF8 + f"{text}\r\n".encode(),
    "UTF-16, little end first": lambda text: codecs.BOM_UTF16_LE + f"{text}\r\n".encode("utf-16-le"),
    "UTF-16, big end first": lambda text: codecs.BOM_UTF16_BE + f"{text}\r\n".encode("utf-16-be"),
}
form = pytest.mark.parametrize("form", FORMS)


def sent(server: ModelServer, role: str) -> list[str]:
    return [text for name, text in roles_and_texts(server.bodies[-1]) if name == role]


@form
@pytest.mark.parametrize("words", [["-"], []])
def test_stdin_is_the_plain_text(keyed: Shell, server: ModelServer, form: str, words: list[str]) -> None:
    done = keyed.in_process("run", *words, stdin=FORMS[form]("Grüße aus Köln"))
    assert done.code == 0, done.err
    assert sent(server, "user") == ["Grüße aus Köln"]


@form
def test_stdin_below_a_message_is_the_plain_text(keyed: Shell, server: ModelServer, form: str) -> None:
    assert keyed.in_process("run", "Translate", stdin=FORMS[form]("Grüße\r\naus Köln")).code == 0
    assert sent(server, "user") == ["Translate\n\nGrüße\r\naus Köln"]


@pytest.mark.parametrize("data", [codecs.BOM_UTF8, codecs.BOM_UTF8 + b"\r\n", codecs.BOM_UTF16_LE, b"\r\n"])
def test_stdin_with_nothing_but_a_mark_is_no_message(keyed: Shell, data: bytes) -> None:
    done = keyed.in_process("run", "-", stdin=data)
    assert done.code == 2
    assert "no message was given" in done.err


@pytest.mark.parametrize("data", [codecs.BOM_UTF16_LE + b"x", codecs.BOM_UTF32_LE + "x".encode("utf-32-le")])
def test_stdin_that_is_no_text_behind_its_mark_is_refused(keyed: Shell, data: bytes) -> None:
    done = keyed.in_process("run", "-", stdin=data)
    assert done.code == 2
    assert "attach other files with --attach -" in done.err


@form
def test_instructions_file_is_the_plain_text(keyed: Shell, server: ModelServer, form: str) -> None:
    config = keyed.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[agents.guide]\ninstructions_file = "guide.md"\n')
    (config.parent / "guide.md").write_bytes(FORMS[form]("Sei höflich."))
    done = keyed.in_process("run", "-a", "guide", "hi")
    assert done.code == 0, done.err
    [instructions] = sent(server, "system")
    assert instructions.strip("\n") == "Sei höflich."


@pytest.mark.parametrize("form", [name for name in FORMS if "UTF-16" not in name])
def test_schema_file_is_read(keyed: Shell, form: str) -> None:
    schema = '{"type": "object", "properties": {"ü": {"type": "string"}}}'
    (keyed.folder / "schema.json").write_bytes(FORMS[form](schema))
    done = keyed.in_process("run", "--schema", "schema.json", "hi")
    assert "--schema" not in done.err


@pytest.mark.parametrize("form", ["with a UTF-8 mark", "with a mark and CR LF"])
def test_an_attached_text_is_the_plain_text(keyed: Shell, server: ModelServer, form: str) -> None:
    (keyed.folder / "notes.txt").write_bytes(FORMS[form]("Grüße"))
    done = keyed.in_process("run", "--attach", "notes.txt", "Translate")
    assert done.code == 0, done.err
    body = json.dumps(server.bodies[-1], ensure_ascii=False)
    assert "\\nGrüße\\n" in body
    assert "\ufeff" not in body


@pytest.mark.parametrize("form", [name for name in FORMS if "UTF-16" not in name])
def test_config_is_read(keyed: Shell, server: ModelServer, form: str) -> None:
    config = keyed.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_bytes(FORMS[form]('model = "openai/gpt-5.2"'))
    del keyed.env["AFK_MODEL"]
    done = keyed.in_process("run", "hi")
    assert done.code == 0, done.err
    assert server.bodies[-1]["model"] == "gpt-5.2"


def test_config_in_utf16_is_refused_with_the_next_step(keyed: Shell) -> None:
    config = keyed.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_bytes(FORMS["UTF-16, little end first"]('model = "x"'))
    done = keyed.in_process("run", "hi")
    assert done.code == 2
    assert "line 1: not UTF-8; save the file as UTF-8" in done.err


class TestImport:
    @pytest.mark.parametrize("name", ["-", "all.jsonl"])
    def test_of_an_export_with_a_mark_and_cr_lf_is_complete(self, talked: Shell, name: str) -> None:
        backup = talked.in_process("threads", "export", "--all").out
        data = codecs.BOM_UTF8 + backup.replace("\n", "\r\n").encode()
        (talked.folder / "all.jsonl").write_bytes(data)
        other = elsewhere(talked)
        given: dict[str, Any] = {"stdin": data} if name == "-" else {}
        done = other.in_process("threads", "import", name, **given)
        assert (done.code, done.err) == (0, "afk: 2 imported\n")
        assert other.in_process("threads", "export", "--all").out == backup

    @pytest.mark.parametrize("name", [name for name in FORMS if "UTF-16" in name])
    def test_of_utf16_is_refused_once_with_the_next_step(self, talked: Shell, name: str) -> None:
        backup = talked.in_process("threads", "export", "--all").out
        done = elsewhere(talked).in_process("threads", "import", stdin=FORMS[name](backup))
        assert done.code == 2
        assert done.err.splitlines() == [
            "afk: stdin, line 1: the file is UTF-16; save it as UTF-8, and import that",
            "afk: 1 refused",
        ]
