"""What a batch reads: JSON Lines, plain text, CSV and folders, and what people send in their place."""

from __future__ import annotations

import base64
import gc
import json
import os
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from afkcli.batch.prompt import Defaults
from afkcli.batch.reading import read_prompts
from afkcli.batch.sources import Source
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import MAX_LINE_BYTES
from afkcli.host.invocation import Invocation, Stream
from afkcli.host.paths import config_file
from afkcli.wiring.assembly import load_setup
from tests.batch.conftest import Read

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 30


def lines(*values: Any) -> str:
    return "".join(f"{json.dumps(value)}\n" for value in values)


def refused(read: Read, content: Any, name: str = "prompts.jsonl", **more: Any) -> str:
    """Return the error for a file, which is one line and names the file."""
    with pytest.raises(UsageError) as error:
        read(content, name, **more)
    assert "\n" not in str(error.value)
    assert name.partition("/")[0] in str(error.value)
    return str(error.value)


class TestLines:
    def test_a_text_and_an_object_are_messages(self, read: Read) -> None:
        prompts = read(lines("one", {"message": "two"}))
        assert [prompt.request for prompt in prompts] == [{"message": "one"}, {"message": "two"}]
        assert [prompt.index for prompt in prompts] == [0, 1]

    @pytest.mark.parametrize(
        "content",
        [
            b'"one"\n\n  \n"two"\n',
            b'"one"\r\n"two"\r\n',
            b'\xef\xbb\xbf"one"\n"two"',
            '"one"\n"two"\n'.encode("utf-16"),
            b"\xfe\xff" + '"one"\r\n\r\n"two"'.encode("utf-16-be"),
            b'\n\n"one"\n"two"\n\n\n',
        ],
        ids=["empty lines", "CRLF", "mark, no last newline", "UTF-16", "big-endian CRLF", "empty at both ends"],
    )
    def test_are_taken_as_tools_write_them(self, read: Read, content: bytes) -> None:
        assert [prompt.request["message"] for prompt in read(content)] == ["one", "two"]

    def test_unicode_line_separators_do_not_cut_a_line(self, read: Read) -> None:
        text = "a\u2028b\u2029c\x85d\x0be"
        assert read(json.dumps(text, ensure_ascii=False) + "\n")[0].request["message"] == text

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ('"a"\n{"message": "b"', "line 2: the last line is not complete"),
            ('"a"\n{"message": "b\n', "line 2: not JSON"),
            ('{"message": "a", "options": {"temperature": NaN}}\n', "line 1: NaN is not JSON; leave the field out"),
            ('"a"\n{"message": "b", "metadata": {"x": Infinity}}\n', "line 2: Infinity is not JSON"),
            ('"a"\n{"message": "b", "metadata": {"x": 1e999}}\n', "line 2: 1e999 is too large a number"),
            ('[{"message": "a"}]\n', "line 1: it is a JSON array; write one object a line, as with: jq -c '.[]' FILE"),
            ('[\n  {"message": "a"}\n]\n', "line 1: it is a JSON array"),
            ('{\n  "message": "a"\n}\n', "line 1: a JSON value over several lines; write each object on one line"),
            ("What is 2 + 2?\n", "line 1: not JSON"),
            ("What is 2 + 2?\n", "for a file of plain text lines use --format text"),
            ("{'message': 'a'}\n", "line 1: not JSON: it has single quotes, as Python prints an object"),
            ('"a"\n42\n', "line 2: a line must be a JSON text or an object with a message"),
            ("null\n", "line 1: a line must be a JSON text"),
            ('"a"\n["b"]\n', "line 2: it is a JSON array"),
            ('{"message": "a"}{"message": "b"}\n', "line 1: not JSON"),
            ('{"message": "a"},\n', "line 1: not JSON"),
            (b'"a"\n"caf\xe9"\n', "line 2: not UTF-8 text (byte 0xe9); save it as UTF-8, as with: iconv -f latin1"),
            (b'"a"\n"\x93hello\x94"\n', "line 2: not UTF-8 text (byte 0x93)"),
            ('"one"\n'.encode("utf-16-le"), "line 1: it has NUL bytes, so it is not text, or UTF-16 without a mark"),
            ('"one"\n'.encode("utf-32"), "it is UTF-32; save it as UTF-8"),
            (b"\xff\xfe" + '"one"'.encode("utf-16-le") + b"\x00", "line 1: not UTF-16 text"),
            (b"\x1f\x8b\x08\x00rest", "it is compressed; unpack it first"),
            (b"PK\x03\x04rest", "save the sheet as CSV"),
            (b"PAR1rest", "it is a Parquet file"),
            ("", "has no prompts"),
            ("\n\n", "has no prompts"),
            ("[" * 100 + "]" * 100, "line 1: it is a JSON array"),
            ('{"message": ' + "[" * 100 + "]" * 100 + "}", "nested deeper than 64"),
        ],
    )
    def test_that_are_no_prompts_are_refused_with_their_number(self, read: Read, content: Any, said: str) -> None:
        assert said in refused(read, content)

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("p.jsonl", '"a"\n{"mesage": "b"}\n"c"\n'),
            ("p.jsonl", '"a"\n{bad\n"c"\n'),
            ("p.csv", "mesage\na\nb\n"),
            ("p.csv", 'message\n"a" b\nc\n'),
        ],
    )
    def test_after_a_mistake_are_left_alone_without_a_further_word(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, encoding: str
    ) -> None:
        ignored: list[Any] = []
        monkeypatch.setattr(sys, "unraisablehook", ignored.append)
        (tmp_path / name).write_bytes(text.encode(encoding))
        invocation = Invocation.of_process()
        source = Source(file=str(tmp_path / name), stdin=invocation.stdin)
        said = ""
        try:
            list(read_prompts(source, load_setup(invocation), Defaults()))
        except UsageError as error:
            said = str(error)
        gc.collect()
        assert "line 2: " in said
        assert ignored == []

    def test_longer_than_64_mb_are_refused(self, tmp_path: Path, read: Read) -> None:
        path = tmp_path / "long.jsonl"
        path.write_bytes(b'"a"\n"' + b"x" * MAX_LINE_BYTES + b'"\n"b"\n')
        assert "line 2: longer than 64 MB" in refused(read, path, "long.jsonl")

    def test_of_the_most_bytes_are_read(self, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("afkcli.batch.text_lines.MAX_LINE_BYTES", 1000)
        text = json.dumps("x" * 998)
        assert len(read(f"{text}\r\n{text}\n{text}")) == 3
        assert "line 2: longer than" in refused(read, f'"a"\r\n{text} \r\n')

    def test_a_message_that_no_model_takes_is_refused(self, read: Read) -> None:
        assert "line 1: the message is 9 MB, more than any model takes" in refused(read, lines("x" * (9 << 20)))

    def test_memory_does_not_grow_with_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "many.jsonl"
        with path.open("w") as file:
            for number in range(3_000):
                file.write(json.dumps({"id": f"p-{number}", "message": f"{number} " + "word " * 2000}) + "\n")
        invocation = Invocation.of_process()
        source = Source(file=str(path), stdin=invocation.stdin)
        prompts = read_prompts(source, load_setup(invocation), Defaults(model="openai/gpt-5.2"))
        next(prompts)
        tracemalloc.start()
        try:
            assert sum(1 for _ in prompts) == 2_999
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < path.stat().st_size / 8, f"{peak} bytes at once for a file of 30 MB"


class TestFields:
    def test_all_of_a_prompt_come_through(self, read: Read, tmp_path: Path) -> None:
        (tmp_path / "cat.png").write_bytes(PNG)
        schema = {"type": "object", "properties": {"label": {"type": "string"}}}
        prompt = {
            "id": 7,
            "message": "What is it?",
            "attachments": ["cat.png", "https://example.com/a.pdf"],
            "instructions": "Be brief.",
            "thread": "cats",
            "agent": "judge",
            "model": "openai/gpt-5.2",
            "options": {"temperature": 0, "stop": ["END"]},
            "schema": schema,
            "limits": {"max_total_cost_usd": 0.5, "max_wall_time_s": "5m", "max_steps": 3},
            "metadata": {"gold": "cat"},
        }
        (found,) = read(lines(prompt))
        assert found.id == "7"
        cat, url = found.request.pop("attachments")
        assert (cat["path"], cat["name"]) == (str(tmp_path / "cat.png"), "cat.png")
        assert url == {"url": "https://example.com/a.pdf"}
        kept = {key: value for key, value in prompt.items() if key not in ("id", "attachments")}
        assert found.request == kept | {"limits": {"max_total_cost_usd": 0.5, "max_wall_time_s": 300, "max_steps": 3}}

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"prompt": "a"}, "unknown field 'prompt'; did you mean 'message'?"),
            ({"text": "a"}, "did you mean 'message'?"),
            ({"mesage": "a"}, "did you mean 'message'?"),
            ({"Message": "a"}, "did you mean 'message'?"),
            ({"message": "a", "system": "b"}, "did you mean 'instructions'?"),
            ({"message": "a", "temperature": 0}, "did you mean 'options'?"),
            ({"message": "a", "max_tokens": 5}, "did you mean 'options'?"),
            ({"message": "a", "gold": "b"}, "what only has to come back with the result goes into 'metadata'"),
            ({"message": "a", "zzz": 1}, "unknown field 'zzz'; known: id, message, messages"),
            (
                {"message": "a", "options": {"temprature": 0}},
                "unknown option 'temprature'; did you mean 'temperature'",
            ),
            ({"message": "a", "options": {"max_tokens": 5}}, "did you mean 'max_output_tokens'?"),
            ({"message": "a", "options": {"temperature": "hot"}}, "'options.temperature' must be a number from 0"),
            ({"message": "a", "options": []}, "'options' must be an object"),
            ({"message": "a", "limits": {"timeout": 5}}, "unknown limit 'timeout'; did you mean 'max_wall_time_s'?"),
            ({"message": "a", "limits": {"max_cost": 5}}, "did you mean 'max_total_cost_usd'?"),
            ({"message": "a", "limits": {"max_steps": 0}}, "'limits.max_steps' must be greater than 0 (got 0)"),
            ({"message": "a", "limits": {"max_steps": 1.5}}, "'limits.max_steps' must be a whole number"),
            ({"message": "a", "limits": {"max_steps": True}}, "'limits.max_steps' must be a number"),
            ({"message": "a", "limits": {"max_wall_time_s": "soon"}}, "must be seconds, or 90s, 5m, 1h"),
            ({"message": "a", "model": "nonsense"}, "unknown model 'nonsense'; write it as provider/model"),
            ({"message": "a", "model": "nowhere/x"}, "there is no provider 'nowhere'"),
            ({"message": "a", "model": "openai/"}, "has no name after the provider"),
            ({"message": "a", "agent": "jugde"}, "there is no agent 'jugde'; did you mean 'judge'?"),
            ({"message": "a", "thread": "-x"}, "the thread name '-x' starts with '-'"),
            ({"message": "a", "thread": 3}, "'thread' must be a text that is not empty (got 3)"),
            ({"message": "a", "schema": {"type": "nonsense"}}, "the schema is not a usable JSON Schema"),
            ({"message": "a", "schema": "missing.json"}, "the schema missing.json cannot be read: No such file"),
            ({"message": "a", "schema": [1]}, "the schema must be a JSON object"),
            ({"message": "a", "variables": {"x": 1}}, "'variables' need a prompt file that names them"),
            ({"message": ""}, "its message is empty"),
            ({"message": " \n"}, "its message is empty"),
            ({"message": None}, "it has no message"),
            ({"id": "x"}, "it has no message"),
            ({"message": 5}, "'message' must be a text (got 5)"),
            ({"message": ["a"]}, "'message' must be a text; give a list of messages as 'messages'"),
            ({"message": "a\0b"}, "the message has NUL characters"),
            ({"message": "a", "messages": [{"role": "user", "content": "b"}]}, "'message' and 'messages' exclude"),
            ({"message": "a", "attachments": ["gone.png"]}, "cannot be attached: No such file or directory (paths are"),
            ({"message": "a", "attachments": ["."]}, "it is a folder; name its files"),
            ({"message": "a", "attachments": ["ftp://x/y"]}, "it is not an http or https URL"),
            ({"message": "a", "attachments": [{"file_id": "f"}]}, "unknown field of an attachment 'file_id'"),
            ({"message": "a", "attachments": [{"path": "a", "url": "b"}]}, "needs one of 'path', 'url' and 'data'"),
            ({"message": "a", "attachments": ["data:image/png;base64,!!"]}, "it is not base64"),
            ({"message": "a", "attachments": [7]}, "an attachment must be a path, a URL, or an object"),
            ({"message": "a", "metadata": "x"}, "'metadata' must be an object"),
            ({"id": "a", "custom_id": "b", "message": "c"}, "'id' and 'custom_id' are two names of one field"),
            ({"id": 1.0, "message": "a"}, "'id' must be a text that is not empty, or a whole number (got 1.0)"),
            ({"id": "", "message": "a"}, "'id' must be a text that is not empty"),
            ({"id": True, "message": "a"}, "'id' must be a text"),
            ({"id": "a\nb", "message": "a"}, "printable characters"),
            ({"id": "x" * 201, "message": "a"}, "at most 200 printable characters"),
        ],
    )
    def test_a_wrong_one_is_refused_with_its_line_and_name(self, read: Read, fields: dict[str, Any], said: str) -> None:
        line = refused(read, lines("first", fields))
        assert "prompts.jsonl, line 2: " in line
        assert said in line

    def test_null_is_a_field_that_is_not_given(self, read: Read) -> None:
        fields = dict.fromkeys(("id", "messages", "schema", "limits", "options", "model", "thread", "attachments"))
        assert read(lines({**fields, "message": "a"}))[0].request == {"message": "a"}

    def test_a_schema_may_be_a_file_beside_the_prompts(self, read: Read, tmp_path: Path) -> None:
        (tmp_path / "label.json").write_text('{"type": "string"}')
        assert read(lines({"message": "a", "schema": "label.json"}))[0].request["schema"] == {"type": "string"}


class TestIds:
    def test_that_are_there_twice_are_refused_with_both_lines(self, read: Read) -> None:
        rows = [{"id": "a", "message": "1"}, {"id": "b", "message": "2"}, {"id": "a", "message": "3"}]
        assert "line 3: the id 'a' is there twice; line 1 has it too" in refused(read, lines(*rows))

    @pytest.mark.parametrize(
        ("one", "other"),
        [({"id": 1}, {"id": "1"}), ({"id": "a"}, {"custom_id": "a"}), ({"id": "\u00e9"}, {"id": "e\u0301"})],
    )
    def test_in_two_forms_are_one(self, read: Read, one: dict[str, Any], other: dict[str, Any]) -> None:
        assert "is there twice; line 1" in refused(read, lines(one | {"message": "x"}, other | {"message": "y"}))

    def test_that_are_missing_stay_the_same_wherever_a_line_moves(self, read: Read) -> None:
        before = {prompt.request["message"]: prompt.id for prompt in read(lines("a", "b", {"message": "c"}))}
        after = {
            prompt.request["message"]: prompt.id for prompt in read(lines("new", {"message": "c"}, "b", "a", "last"))
        }
        assert before.items() <= after.items()
        assert len(set(after.values())) == 5

    def test_that_are_missing_of_equal_lines_are_numbered(self, read: Read) -> None:
        first, second, third = (prompt.id for prompt in read(lines("a", {"message": "a"}, "a")))
        assert (second, third) == (f"{first}.2", f"{first}.3")

    def test_that_are_missing_do_not_change_with_the_command_line(self, read: Read) -> None:
        one, other = read(lines("a"), model="openai/gpt-5.2")[0], read(lines("a"), model="openai/gpt-5.1")[0]
        assert one.id == other.id
        assert one.digest != other.digest, "the prompt is asked of another model"


class TestDigest:
    @pytest.mark.parametrize(
        "changed",
        [
            {"message": "b"},
            {"model": "openai/gpt-5.1"},
            {"options": {"seed": 1}},
            {"agent": "judge"},
            {"instructions": "x"},
            {"schema": {"type": "string"}},
            {"thread": "t"},
            {"attachments": ["https://example.com/x"]},
            {"message": None, "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "a"}]},
        ],
    )
    def test_changes_with_what_is_asked(self, read: Read, changed: dict[str, Any]) -> None:
        before = read(lines({"id": "1", "message": "a"}))[0].digest
        assert read(lines({"id": "1", "message": "a", **changed}))[0].digest != before

    @pytest.mark.parametrize(
        ("row", "fixed"),
        [
            ({}, {"default_model": "openai/gpt-5.1"}),
            ({"agent": "judge"}, {"default_model": "openai/gpt-5.2-mini"}),
            ({"model": "openai/gpt-5.2"}, {"model": "openai/gpt-5.2"}),
        ],
    )
    def test_does_not_change_with_the_model_that_the_config_names_for_other_machines(
        self, read: Read, row: dict[str, Any], fixed: dict[str, Any]
    ) -> None:
        file = config_file(dict(os.environ))
        file.write_text('model = "openai/gpt-5.1"\n[agents.judge]\nmodel = "gpt-5.2-mini"\n')
        content = lines({"id": "1", "message": "a", **row})
        (before,), (after,) = read(content), read(content, fixes_models=True)
        assert after.digest == before.digest
        assert {name: after.request[name] for name in ("model", "default_model") if name in after.request} == fixed

    def test_does_not_change_with_the_rest(self, read: Read) -> None:
        before = read(lines({"id": "1", "message": "a"}))[0].digest
        more = {"limits": {"max_steps": 1}, "metadata": {"x": 1}, "options": None}
        assert read(lines({"message": "a", "id": "2", **more}), limits={"max_wall_time_s": 3.0})[0].digest == before

    def test_changes_with_the_contents_of_a_file_and_not_with_its_place(self, read: Read, tmp_path: Path) -> None:
        row = {"message": "a", "attachments": ["notes.txt"]}
        (tmp_path / "notes.txt").write_text("one")
        before = read(lines(row))[0].digest
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "notes.txt").write_text("one")
        assert read(lines({**row, "attachments": ["other/notes.txt"]}))[0].digest == before
        (tmp_path / "notes.txt").write_text("two")
        assert read(lines(row))[0].digest != before

    def test_changes_with_the_prompt_file(self, read: Read) -> None:
        before = read(lines("a"), prompt="Say {{ message }}")[0].digest
        assert read(lines("a"), prompt="Tell {{ message }}")[0].digest != before

    def test_changes_with_the_instructions_of_the_prompt_file(self, read: Read) -> None:
        row = lines({"message": "a", "variables": {"lang": "de"}})
        front = "---\ninstructions: {} in {{{{ lang }}}}\n---\nSay {{{{ message }}}}"
        before = read(row, prompt=front.format("Answer"))[0].digest
        assert read(row, prompt=front.format("Reply"))[0].digest != before


class TestMessages:
    def test_become_instructions_history_and_the_message(self, read: Read) -> None:
        messages = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [{"type": "text", "text": "Hello!"}]},
            {"role": "user", "content": "Who"},
            {"role": "user", "content": "are you?"},
        ]
        (prompt,) = read(lines({"messages": messages}))
        assert prompt.request == {
            "instructions": "Be brief.",
            "history": [{"role": "user", "text": "Hi"}, {"role": "assistant", "text": "Hello!"}],
            "message": "Who\n\nare you?",
        }

    def test_have_images_in_the_forms_of_all_providers(self, read: Read) -> None:
        encoded = base64.b64encode(PNG).decode()
        content = [
            {"type": "text", "text": "Look"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}", "detail": "low"}},
            {"type": "input_image", "image_url": "https://example.com/x.png"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": encoded}},
            {"type": "document", "source": {"type": "text", "data": "a text"}, "title": "notes"},
            {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,aGk="},
        ]
        (prompt,) = read(lines({"messages": [{"role": "user", "content": content}]}))
        assert prompt.request["message"] == "Look"
        first, url, third, notes, file = prompt.request["attachments"]
        assert first["data"] == third["data"] == encoded
        assert url == {"url": "https://example.com/x.png"}
        assert (notes["name"], base64.b64decode(notes["data"])) == ("notes", b"a text")
        assert (file["name"], base64.b64decode(file["data"])) == ("a.txt", b"hi")

    def test_before_the_last_one_exclude_a_thread(self, read: Read) -> None:
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        messages.append({"role": "user", "content": "c"})
        assert "'thread' and earlier 'messages' exclude" in refused(read, lines({"messages": messages, "thread": "t"}))
        assert read(lines({"messages": messages[-1:], "thread": "t"}))[0].request["thread"] == "t"

    @pytest.mark.parametrize(
        ("messages", "said"),
        [
            ([], "'messages' must be a list of objects"),
            ({"role": "user"}, "'messages' must be a list of objects"),
            (["a"], "message 1 must be an object"),
            ([{"content": "a"}], "message 1 has the role None; known: system"),
            ([{"from": "human", "value": "a"}], "message 1 has the role None"),
            ([{"role": "User", "content": "a"}], "message 1 has the role 'User'"),
            ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "the last message must be"),
            ([{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}], "the first message after"),
            ([{"role": "system", "content": "a"}], "has no message of the user"),
            ([{"role": "user", "content": "a"}, {"role": "system", "content": "b"}], "must come before all others"),
            ([{"role": "tool", "content": "a"}], "messages with tool calls cannot be sent"),
            (
                [{"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}],
                "message 2 has 'tool_calls', which cannot be sent",
            ),
            ([{"role": "user", "content": None}], "message 1 must have a 'content'"),
            ([{"role": "user", "content": ""}], "its message is empty"),
            ([{"role": "user", "content": [{"type": "input_audio"}]}], "a part of the type 'input_audio'"),
            ([{"role": "user", "content": [{"type": "image_url"}]}], "an image needs a URL"),
            ([{"role": "user", "content": [{"type": "file", "file": {"file_id": "f-1"}}]}], "a file needs 'file_data'"),
            ([{"role": "user", "content": [{"type": "tool_result"}]}], "cannot be sent (messages with tool calls"),
        ],
    )
    def test_that_cannot_be_sent_are_refused_with_their_number(self, read: Read, messages: Any, said: str) -> None:
        assert said in refused(read, lines({"messages": messages}))


class TestProviderLines:
    def test_of_openai_are_read(self, read: Read) -> None:
        body = {
            "model": "gpt-5.2",
            "messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
            "max_completion_tokens": 9,
            "temperature": 0,
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "string"}}},
            "n": 1,
            "metadata": {"gold": "1"},
        }
        line = {"custom_id": "r-1", "method": "POST", "url": "/v1/chat/completions", "body": body}
        (prompt,) = read(lines(line))
        assert prompt.id == "r-1"
        assert prompt.request == {
            "custom_id": True,
            "instructions": "Be brief.",
            "message": "Hi",
            "model": "openai/gpt-5.2",
            "options": {"max_output_tokens": 9, "temperature": 0},
            "schema": {"type": "string"},
            "metadata": {"gold": "1"},
        }

    def test_of_openais_responses_are_read(self, read: Read) -> None:
        body = {"model": "gpt-5.2", "input": "Hi", "instructions": "x", "reasoning": {"effort": "low"}}
        (prompt,) = read(lines({"custom_id": "r-1", "url": "/v1/responses", "method": "POST", "body": body}))
        assert prompt.request == {
            "custom_id": True,
            "message": "Hi",
            "model": "openai/gpt-5.2",
            "options": {"reasoning_effort": "low"},
            "instructions": "x",
        }

    def test_of_anthropic_are_read(self, read: Read) -> None:
        params = {
            "model": "claude-sonnet-4-5",
            "max_tokens": 100,
            "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {}}]}],
            "stop_sequences": ["END"],
            "metadata": {"user_id": "u"},
        }
        (prompt,) = read(lines({"custom_id": "r-1", "params": params}))
        assert prompt.request == {
            "custom_id": True,
            "message": "Hi",
            "model": "anthropic/claude-sonnet-4-5",
            "options": {"max_output_tokens": 100, "stop": ["END"]},
            "instructions": "Be brief.",
        }

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ({"url": "/v1/embeddings", "body": {"input": "a"}}, "the url '/v1/embeddings' is not known"),
            ({"body": {"messages": [], "tools": [{"type": "function"}]}}, "name tools of afk with --tool"),
            ({"body": {"messages": [{"role": "user", "content": "a"}], "logit_bias": {"1": 2}}}, "'logit_bias'"),
            ({"body": {"messages": [{"role": "user", "content": "a"}], "n": 3}}, "'n' of a provider's batch line"),
            ({"body": {"messages": [{"role": "user", "content": "a"}], "stream": True}}, "'stream' of a provider's"),
            ({"body": {"messages": [{"role": "user", "content": "a"}], "response_format": {"type": "json_object"}}},
             "must be text or a json_schema"),
            ({"params": {"messages": [{"role": "user", "content": "a"}], "thinking": {"type": "on"}}}, "'thinking'"),
            ({"key": "1", "request": {"contents": []}}, "Gemini's batch files, which are not read"),
            ({"body": {"messages": []}, "nonsense": 1}, "'nonsense' is not a field of a provider's batch line"),
            ({"body": {"model": "gpt-5.2"}}, "'messages' must be a list"),
        ],
    )  # fmt: skip
    def test_that_ask_for_more_are_refused(self, read: Read, line: dict[str, Any], said: str) -> None:
        assert said in refused(read, lines({"custom_id": "x", **line}))

    @pytest.mark.parametrize(
        ("line", "model"),
        [
            ({"body": {"model": "gpt-5.2"}}, "openai/gpt-5.2"),
            ({"body": {"model": "openai/gpt-5.2"}}, "openai/gpt-5.2"),
            ({"body": {"model": "llama-3"}}, "openai/llama-3"),
            ({"body": {"model": "meta-llama/Llama-3"}}, "openai/meta-llama/Llama-3"),
            ({"params": {"model": "claude-sonnet-4-5"}}, "anthropic/claude-sonnet-4-5"),
            ({"params": {"model": "gpt-5.2"}}, "openai/gpt-5.2"),
        ],
    )
    def test_have_the_model_that_their_name_says_else_one_of_their_provider(
        self, read: Read, line: dict[str, Any], model: str
    ) -> None:
        body = {**next(iter(line.values())), "messages": [{"role": "user", "content": "Hi"}]}
        assert read(lines({"custom_id": "x", next(iter(line)): body}))[0].request["model"] == model

    @pytest.mark.parametrize(
        "row",
        [
            {"v": 1, "id": "a", "state": "done", "text": "4", "attempts": 1},
            {"id": "batch_req_1", "custom_id": "a", "response": {"status_code": 200}, "error": None},
            {"custom_id": "a", "result": {"type": "succeeded"}},
        ],
    )
    def test_of_results_are_refused(self, read: Read, row: dict[str, Any]) -> None:
        assert "it is a row of results, not a prompt" in refused(read, lines(row))


class TestText:
    def test_each_line_of_a_txt_is_a_message(self, read: Read) -> None:
        prompts = read("What is 2 + 2?\r\n\n {not json\n", "prompts.txt")
        assert [prompt.request["message"] for prompt in prompts] == ["What is 2 + 2?", " {not json"]

    def test_the_form_can_be_named(self, read: Read) -> None:
        assert read("one\ntwo\n", form="text")[1].request == {"message": "two"}

    def test_an_unknown_name_is_told_by_its_first_character(self, read: Read) -> None:
        assert read('"one"\n', "prompts")[0].request == {"message": "one"}
        assert "the form of the prompts is not clear; name it: --format" in refused(read, "one\n", "prompts")


class TestTables:
    @pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_are_read_as_spreadsheets_write_them(self, read: Read, separator: str, encoding: str) -> None:
        table = (
            f'id{separator}message\r\n1{separator}"say ""hi""\r\nand{separator} bye"\r\n\r\n2{separator}caf\u00e9\r\n'
        )
        prompts = read(table.encode(encoding), "prompts.csv")
        assert [(prompt.id, prompt.request["message"]) for prompt in prompts] == [
            ("1", f'say "hi"\r\nand{separator} bye'),
            ("2", "caf\u00e9"),
        ]
        assert [prompt.where.rpartition(", ")[2] for prompt in prompts] == ["line 2", "line 5"]

    def test_columns_name_parts_of_fields_and_variables(self, read: Read) -> None:
        table = (
            "ID,lang,text,options.temperature,limits.max_wall_time_s,metadata.gold,attachments,schema\n"
            'a,de,Hello,0.5,5m,Hallo,https://example.com/x,"{""type"": ""string""}"\n'
            "b,fr,Bye,,,,,\n"
        )
        first, second = read(table, "prompts.csv", prompt="Translate to {{ lang }}: {{ text }}")
        assert first.id == "a"
        assert first.request == {
            "message": "Translate to de: Hello",
            "options": {"temperature": 0.5},
            "limits": {"max_wall_time_s": 300},
            "metadata": {"gold": "Hallo"},
            "attachments": [{"url": "https://example.com/x"}],
            "schema": {"type": "string"},
        }
        assert second.request == {"message": "Translate to fr: Bye"}

    def test_numbers_in_texts_stay_texts(self, read: Read) -> None:
        (prompt,) = read("id,message,thread\n007,42,1e5\n", "prompts.csv")
        assert (prompt.id, prompt.request) == ("007", {"message": "42", "thread": "1e5"})

    def test_a_first_line_for_the_spreadsheet_names_the_separator(self, read: Read) -> None:
        assert read("sep=;\nmessage;id\na, b;1\n", "prompts.csv")[0].request == {"message": "a, b"}

    def test_one_column_needs_no_separator(self, read: Read) -> None:
        assert [prompt.request["message"] for prompt in read("message\none\n\ntwo", "p.csv")] == ["one", "two"]

    def test_empty_cells_at_the_end_are_left_out(self, read: Read) -> None:
        assert read("id,message,,\n1,a,,\n,,,\n2,b\n", "p.csv")[1].request == {"message": "b"}

    def test_a_cell_may_be_longer_than_the_limit_of_the_library(self, read: Read) -> None:
        assert len(read(f'message\n"{"x" * 200_000}"\n', "p.csv")[0].request["message"]) == 200_000

    @pytest.mark.parametrize(
        ("table", "said"),
        [
            ("", "a table needs a header, such as: id,message"),
            ("id,message\n", "has no prompts"),
            ("id,mesage\n1,a\n", "line 2: unknown field 'mesage'; did you mean 'message'?"),
            (",message\n0,a\n", "line 2: the column 1 has no name in the header; name it, or leave it out (pandas"),
            ("id,message\n1,a,b\n", "line 2: 3 cells, but the header has 2; put quotes around"),
            ("message\nHello, you\n", "line 2: 2 cells, but the header has 1"),
            ("id,message\n1,ok\n2,\"never closed\n3,x\n", "line 3: not CSV: a quote that opens here is never closed"),
            ('message\n"a" b\n', "line 2: not CSV: text follows a closing quote"),
            ("message,message\na,b\n", "line 1: the column 'message' is there twice"),
            ("Message,message\na,b\n", "line 2: the field 'message' is there twice"),
            ("id,message\n1,\n", "line 2: it has no message"),
            ("options,options.seed,message\n{},1,a\n", "the columns 'options' and 'options.seed' exclude each other"),
            ("message,options.seed\na,x\n", "line 2: 'options.seed' must be an integer (got 'x')"),
            (b"message\ncaf\xe9\n", "line 2: not UTF-8 text"),
        ],
    )  # fmt: skip
    def test_that_are_wrong_are_refused_with_their_line(self, read: Read, table: Any, said: str) -> None:
        assert said in refused(read, table, "p.csv")


class TestFolders:
    def test_each_file_is_a_prompt_with_its_path_as_the_id(self, read: Read, tmp_path: Path) -> None:
        folder = tmp_path / "mails"
        (folder / "new").mkdir(parents=True)
        (folder / "b.txt").write_text("Second\n")
        (folder / "a.md").write_text("First")
        (folder / "new" / "c.txt").write_bytes("Third".encode("utf-16"))
        (folder / ".DS_Store").write_bytes(b"\0")
        prompts = read(folder)
        assert [(prompt.id, prompt.request["message"]) for prompt in prompts] == [
            ("a.md", "First"),
            ("b.txt", "Second"),
            ("new/c.txt", "Third"),
        ]

    def test_an_image_is_attached_to_the_prompt_file(self, read: Read, tmp_path: Path) -> None:
        folder = tmp_path / "images"
        folder.mkdir()
        (folder / "cat.png").write_bytes(PNG)
        (prompt,) = read(folder, prompt="What is it?")
        assert (prompt.request["message"], prompt.request["attachments"][0]["name"]) == ("What is it?", "cat.png")
        assert "cat.png: it has no message" in refused(read, folder, "cat.png")

    @pytest.mark.parametrize(
        ("data", "said"), [(b"", "the file is empty"), (b"\0\1", "unsupported type"), (b"caf\xe9", "unsupported type")]
    )
    def test_other_files_are_refused_with_their_path(self, read: Read, tmp_path: Path, data: bytes, said: str) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "x.bin").write_bytes(data)
        assert said in refused(read, folder, "x.bin")

    def test_without_files_are_refused(self, read: Read, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        assert "has no prompts" in refused(read, tmp_path / "empty", "empty")


class TestPromptFile:
    def test_fields_of_a_line_are_its_variables(self, read: Read) -> None:
        prompt = "---\nvariables:\n  lang: de\n---\nTranslate to {{ lang }}: {{ message }}"
        rows = lines("Hello", {"message": "Bye", "lang": "fr"}, {"message": "x", "variables": {"lang": "it"}})
        assert [found.request["message"] for found in read(rows, prompt=prompt)] == [
            "Translate to de: Hello",
            "Translate to fr: Bye",
            "Translate to it: x",
        ]

    def test_the_command_lines_variables_come_after_those_of_the_line(self, read: Read) -> None:
        rows = lines({"a": 1}, {"a": True, "b": "own"})
        found = read(rows, prompt="{{ a }} {{ b }}", variables={"b": "all"})
        assert [item.request["message"] for item in found] == ["1 all", "true own"]

    @pytest.mark.parametrize(
        ("row", "said"),
        [
            ({"message": "a"}, "needs a value for 'lang'; give 'variables', or --var lang=VALUE"),
            ({"message": "a", "lnag": "de"}, "unknown field 'lnag'; did you mean 'lang'?"),
            ({"message": "a", "variables": {"lnag": "de"}}, "has no variable 'lnag'; did you mean 'lang'?"),
            ({"message": "a", "lang": ["de"]}, "'variables.lang' must be a text or a number"),
            ({"lang": "de"}, "needs a message"),
            ({"messages": [{"role": "user", "content": "x"}], "lang": "de"}, "'messages' cannot be used with a prompt"),
        ],
    )
    def test_what_does_not_fit_it_is_refused(self, read: Read, row: dict[str, Any], said: str) -> None:
        assert said in refused(read, lines(row), prompt="In {{ lang }}: {{ message }}")

    def test_instructions_with_variables_are_filled_for_each(self, read: Read) -> None:
        prompt = "---\ninstructions: Answer in {{ lang }}.\n---\n"
        found = read(lines({"message": "a", "lang": "de"}, {"message": "b", "lang": "fr"}), prompt=prompt)
        assert [item.request["instructions"] for item in found] == ["Answer in de.", "Answer in fr."]


class TestStdin:
    def test_is_read_as_lines(self, tmp_path: Path) -> None:
        ours, theirs = os.pipe()
        os.write(theirs, b'"one"\n"two"\n')
        os.close(theirs)
        with os.fdopen(ours) as text:
            source = Source(file="-", stdin=Stream(ours, text))
            prompts = list(read_prompts(source, load_setup(Invocation.of_process()), Defaults()))
        assert [prompt.request["message"] for prompt in prompts] == ["one", "two"]
        assert prompts[1].where == "stdin, line 2"

    @pytest.mark.parametrize(("path", "said"), [("", "is empty"), ("gone.jsonl", "No such file"), ("a\0b", "null")])
    def test_a_file_that_cannot_be_read_is_refused(self, path: str, said: str) -> None:
        invocation = Invocation.of_process()
        with pytest.raises(UsageError, match=said):
            list(read_prompts(Source(file=path, stdin=invocation.stdin), load_setup(invocation), Defaults()))


class TestModels:
    """What would fail for each prompt alike is found before the first one is asked."""

    @pytest.mark.parametrize("row", [{"message": "a"}, {"message": "a", "model": "openai/gpt-5.2"}])
    def test_without_a_key_are_refused(self, read: Read, monkeypatch: pytest.MonkeyPatch, row: dict[str, str]) -> None:
        monkeypatch.delenv("OPENAI_API_KEY")
        with pytest.raises(UsageError, match="OPENAI_API_KEY"):
            read(lines(row), model="openai/gpt-5.2")
        assert len(read(lines(row), model="openai/gpt-5.2", needs_keys=False)) == 1

    def test_of_the_command_line_are_looked_at_only_if_a_prompt_needs_them(self, read: Read) -> None:
        with pytest.raises(UsageError, match="unknown model 'nonsense'"):
            read(lines("a"), model="nonsense")
        assert len(read(lines({"message": "a", "model": "openai/gpt-5.2"}), model="nonsense")) == 1

    def test_of_an_agent_that_the_command_line_names(self, read: Read) -> None:
        with pytest.raises(UsageError, match="there is no agent 'nobody'"):
            read(lines("a"), agent="nobody")
