"""`afk threads import` of session files of `codex` and `claude`: whole ones, damaged ones, and continued threads."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from afkcli.testing.model_server import ModelServer, Step
from tests.e2e.shell import Finished, Shell, roles_and_texts

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
IMAGE = base64.b64encode(PNG).decode()
ID = "01a21c69-0fbd-7303-bd51-46ae557b7db5"


def codex(kind: str, **payload: Any) -> dict[str, Any]:
    return {"timestamp": "2026-05-01T10:00:00.500Z", "type": kind, "payload": payload}


def said(role: str, text: str, kind: str = "") -> dict[str, Any]:
    kind = kind or ("output_text" if role == "assistant" else "input_text")
    return codex("response_item", type="message", role=role, content=[{"type": kind, "text": text}])


def used(total: int) -> dict[str, Any]:
    last = {"input_tokens": 12, "cached_input_tokens": 4, "output_tokens": 7, "total_tokens": 19}
    info = {"total_token_usage": {"total_tokens": total}, "last_token_usage": last}
    return codex("event_msg", type="token_count", info=info)


CODEX = [
    codex("session_meta", id=ID, timestamp="2026-05-01T10:00:00.000Z", cwd="/garden", model_provider="openai"),
    said("developer", "You are codex."),
    said("user", "<environment_context>\n<cwd>/garden</cwd></environment_context>"),
    codex("turn_context", model="gpt-5.2-codex"),
    said("user", "Count the beds"),
    codex("response_item", type="reasoning", summary=[{"type": "summary_text", "text": "I look."}]),
    codex("response_item", type="function_call", name="exec_command", arguments='{"cmd":"ls"}', call_id="call_1"),
    used(19),
    codex("response_item", type="function_call_output", call_id="call_1", output="bed-1 bed-2"),
    said("assistant", "Two beds."),
    used(38),
    used(38),
    codex(
        "response_item",
        type="message",
        role="user",
        content=[
            {"type": "input_image", "image_url": f"data:image/png;base64,{IMAGE}"},
            {"type": "input_text", "text": "What is this?"},
        ],
    ),
    said("assistant", "A bean."),
    codex("response_item", type="ghost_snapshot", ghost_commit={}),
]


def claude(kind: str, uuid: str, parent: str | None, content: Any, **more: Any) -> dict[str, Any]:
    message = {"role": kind, "content": content, **more.pop("message", {})}
    common = {"sessionId": "s-1", "timestamp": "2026-05-01T10:00:00.500Z", "cwd": "/garden", "isSidechain": False}
    return {"type": kind, "uuid": uuid, "parentUuid": parent, "message": message, **common, **more}


def answer(uuid: str, parent: str, *content: dict[str, Any], id_: str, **usage: int) -> dict[str, Any]:
    message = {"id": id_, "model": "claude-sonnet-5-5", "usage": {"input_tokens": 3, "output_tokens": 7, **usage}}
    return claude("assistant", uuid, parent, list(content), message=message)


def call(id_: str, command: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": id_, "name": "Bash", "input": {"command": command}}


def result(id_: str, text: str) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id_, "content": text}


CLAUDE: list[dict[str, Any]] = [
    {"type": "queue-operation", "operation": "enqueue", "sessionId": "s-1"},
    claude("user", "u1", None, "Count the beds"),
    claude("user", "x1", "u1", "A branch that was left"),
    answer("a1", "u1", {"type": "thinking", "thinking": "I look.", "signature": "x"}, id_="m1"),
    answer("a2", "a1", call("t1", "ls"), id_="m1", cache_read_input_tokens=4),
    answer("a3", "a2", call("t2", "pwd"), id_="m1", cache_read_input_tokens=4),
    claude("user", "r1", "a2", [result("t1", "bed-1 bed-2")]),
    claude("user", "r2", "a3", [result("t2", "/garden")]),
    answer("a4", "r2", {"type": "text", "text": "Two beds."}, id_="m2"),
    claude("user", "n1", "a4", "Caveat: written by the program", isMeta=True),
    claude(
        "user",
        "u2",
        "n1",
        [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": IMAGE}},
            {"type": "text", "text": "What is this?"},
        ],
    ),
    answer("a5", "u2", {"type": "text", "text": "A bean."}, id_="m3"),
    {**claude("user", "s1", None, "for a subagent"), "isSidechain": True},
]
SESSIONS = {"codex": CODEX, "claude": CLAUDE}


def import_lines(shell: Shell, *lines: dict[str, Any] | bytes) -> Finished:
    written = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    return shell.in_process("threads", "import", "-", stdin=b"".join(line + b"\n" for line in written))


def turns(shell: Shell, name: str = "count-the-beds") -> list[dict[str, Any]]:
    return shell.in_process("threads", "show", name, "--json").events


def texts(turn: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (part["type"], part.get("text") or part.get("name") or "")
        for message in turn["messages"]
        for part in message["parts"]
    ]


class TestWhole:
    @pytest.mark.parametrize("program", SESSIONS)
    def test_its_turns_have_calls_results_reasoning_and_images(self, shell: Shell, program: str) -> None:
        done = import_lines(shell, *SESSIONS[program])

        assert (done.code, done.out) == (0, "")
        assert done.err.splitlines()[-1] == "afk: 1 imported"
        first, second = turns(shell)
        assert [turn["state"] for turn in (first, second)] == ["completed", "completed"]
        kinds = texts(first)
        assert kinds[:2] == [("text", "Count the beds"), ("reasoning", "I look.")]
        assert kinds[-1] == ("text", "Two beds.")
        calls = [part for message in first["messages"] for part in message["parts"] if part["type"] == "tool_call"]
        results = [part for message in first["messages"] for part in message["parts"] if part["type"] == "tool_result"]
        assert [part["id"] for part in calls] == [part["id"] for part in results]
        assert results[0]["parts"][0]["text"] == "bed-1 bed-2"
        assert [part["type"] for part in second["messages"][0]["parts"]] == ["image", "text"]
        assert first["total_cost_usd"] is None
        assert first["started"] == "2026-05-01T10:00:00.500Z"

    @pytest.mark.parametrize(
        ("program", "model", "tokens"),
        [("codex", "openai/gpt-5.2-codex", (24, 14, 8)), ("claude", "anthropic/claude-sonnet-5-5", (10, 14, 4))],
    )
    def test_its_model_and_usage_are_counted_once(
        self, shell: Shell, program: str, model: str, tokens: tuple[int, ...]
    ) -> None:
        import_lines(shell, *SESSIONS[program])

        first, _ = turns(shell)
        usage = first["usage"]
        assert first["model"] == model
        assert (usage["input_tokens"], usage["output_tokens"], usage["cache_read_input_tokens"]) == tokens

    @pytest.mark.parametrize("program", SESSIONS)
    def test_what_has_no_counterpart_is_said_with_its_count(self, shell: Shell, program: str) -> None:
        done = import_lines(shell, *SESSIONS[program])

        wanted = {
            "codex": ["instructions of codex (1)", "name of the user (1)", "items of the type 'ghost_snapshot' (1)"],
            "claude": ["branches that were left (1)", "name of the user (1)", "messages of subagents (1)"],
        }
        for what in wanted[program]:
            assert f"{what}\n" in done.err

    @pytest.mark.parametrize("program", SESSIONS)
    def test_again_it_is_present_and_later_turns_are_appended(self, shell: Shell, program: str) -> None:
        whole = SESSIONS[program]
        cut = whole.index(next(line for line in whole if "What is this?" in json.dumps(line)))
        import_lines(shell, *whole[:cut])

        assert import_lines(shell, *whole[:cut]).err.endswith("afk: 1 already present\n")
        assert import_lines(shell, *whole).err.endswith("afk: 1 appended to their threads\n")
        assert import_lines(shell, *whole).err.endswith("afk: 1 already present\n")
        assert [turn["turn"] for turn in turns(shell)] == [1, 2]

    @pytest.mark.parametrize("program", SESSIONS)
    def test_the_thread_is_continued_with_what_was_said(self, keyed: Shell, server: ModelServer, program: str) -> None:
        import_lines(keyed, *SESSIONS[program])
        server.script(Step(text="Sow."))

        done = keyed.in_process("run", "-t", "count-the-beds", "-m", "gpt-5.2-mini", "And now?")

        assert (done.code, done.out) == (0, "Sow.\n")
        body = server.bodies[-1]
        assert next(text for role, text in roles_and_texts(body) if role == "tool") == "bed-1 bed-2"
        assert [text for role, text in roles_and_texts(body) if role == "assistant" and text] == [
            "Two beds.",
            "A bean.",
        ]
        image = body["messages"][-3]["content"][0]
        assert image["image_url"]["url"] == f"data:image/png;base64,{IMAGE}"

    def test_a_turn_that_was_stopped_is_interrupted(self, shell: Shell) -> None:
        import_lines(shell, *CODEX[:7], codex("event_msg", type="turn_aborted", reason="interrupted"))

        [turn] = turns(shell)
        assert turn["state"] == "interrupted"

    def test_turns_that_were_rolled_back_are_left_out(self, shell: Shell) -> None:
        done = import_lines(shell, *CODEX, codex("event_msg", type="thread_rolled_back", num_turns=1))

        assert len(turns(shell)) == 1
        assert "turns that were rolled back (1)" in done.err

    def test_the_first_files_of_codex_have_no_envelope(self, shell: Shell) -> None:
        first = {"id": ID, "timestamp": "2025-05-01T10:00:00Z", "instructions": None}
        message = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Count the beds"}]}

        assert import_lines(shell, first, message, {"record_type": "state"}).code == 0

        [turn] = turns(shell)
        assert turn["started"] == "2025-05-01T10:00:00.000Z"


DAMAGED = {
    "a cut line": b'{"timestamp":"2026-05-01T10:00:00Z","type":"response_item","payload":{"type":"mess',
    "a NUL and no JSON": b"\0\0\0",
    "bytes that are not UTF-8": b'{"type":"user\xff"}',
    "a list": b"[1,2]",
    "a number out of JSON": b'{"timestamp":NaN}',
    "deep nesting": b'{"a":' * 500 + b"1" + b"}" * 500,
}
WRONG = {
    "codex": [
        codex("response_item", type="message", role="user", content=42),
        codex("response_item", type="message", role="wizard", content="x"),
        codex("response_item", type="function_call", name=["x"], arguments={}, call_id="c"),
        codex("response_item", type="reasoning", summary="no list"),
        {"timestamp": 5, "type": "response_item", "payload": [1]},
        {"timestamp": None, "type": 7, "payload": {}},
    ],
    "claude": [
        claude("user", "w1", "a5", 42),
        claude("user", "w1", "a5", [1, 2]),
        {**claude("user", "w1", "a5", "x"), "message": "text"},
        {**claude("user", "w1", "a5", "x"), "uuid": 5},
        claude("user", "u1", "a5", "a duplicate id"),
        claude("assistant", "w1", "a5", [{"type": "text", "text": {}}]),
    ],
}


class TestDamaged:
    @pytest.mark.parametrize("program", SESSIONS)
    @pytest.mark.parametrize("damage", DAMAGED)
    @pytest.mark.parametrize("place", [0, 5, -1])
    def test_a_line_that_cannot_be_read_is_named_and_the_rest_imported(
        self, shell: Shell, program: str, damage: str, place: int
    ) -> None:
        lines: list[Any] = list(SESSIONS[program])
        place = len(lines) if place < 0 else place
        lines.insert(place, DAMAGED[damage])

        done = import_lines(shell, *lines)

        assert (done.code, done.out) == (1, "")
        assert f"afk: stdin is incomplete, line {place + 1}: " in done.err
        assert done.err.endswith("afk: 1 imported\n")
        assert "\0" not in done.err
        assert len(turns(shell)) == 2

    @pytest.mark.parametrize(("program", "wrong"), [(name, line) for name, lines in WRONG.items() for line in lines])
    def test_a_wrong_type_is_named_and_the_rest_imported(
        self, shell: Shell, program: str, wrong: dict[str, Any]
    ) -> None:
        session = SESSIONS[program]

        done = import_lines(shell, *session, wrong)

        assert (done.code, done.out) == (1, "")
        assert f"afk: stdin is incomplete, line {len(session) + 1}: " in done.err
        assert done.err.endswith("afk: 1 imported\n")

    @pytest.mark.parametrize("program", SESSIONS)
    def test_text_of_any_characters_is_kept_as_far_as_it_is_text(self, shell: Shell, program: str) -> None:
        text = json.dumps(SESSIONS[program]).replace("Two beds.", "NUL \\u0000 half \\ud83d escape \\u001b[2J")

        done = import_lines(shell, *json.loads(text))

        assert done.code == 0
        assert texts(turns(shell)[0])[-1] == ("text", "NUL \0 half \ufffd escape \x1b[2J")

    def test_a_huge_line_is_named_and_the_rest_imported(self, shell: Shell, tmp_path: Path) -> None:
        huge = b'{"type":"response_item","payload":{"x":"' + b"x" * (65 << 20) + b'"}}'

        done = import_lines(shell, CODEX[0], huge, *CODEX[1:])

        assert (done.code, done.err.splitlines()[-1]) == (1, "afk: 1 imported")
        assert "stdin is incomplete, line 2: " in done.err
        assert len(done.err) < 2000

    def test_many_bad_lines_are_counted(self, shell: Shell) -> None:
        done = import_lines(shell, *CODEX, *[b"{"] * 1000)

        assert done.err.count("is incomplete") == 11
        assert "990 more lines cannot be read" in done.err

    def test_arguments_that_are_no_object_are_kept_as_they_are(self, shell: Shell) -> None:
        calls = [
            codex("response_item", type="function_call", name="f g", arguments=arguments, call_id=f"c{number}")
            for number, arguments in enumerate(['{"cut', "[1]", "", '{"a":' * 40 + "1" + "}" * 40])
        ]

        assert import_lines(shell, *CODEX[:5], *calls).code == 0

        parts = [part for message in turns(shell)[0]["messages"] for part in message["parts"]][1:]
        assert [part["name"] for part in parts] == ["f_g"] * 4
        assert [part["invalid_arguments"] for part in parts[:2]] == ['{"cut', "[1]"]

    def test_no_path_and_no_address_in_it_is_opened(self, shell: Shell, server: ModelServer) -> None:
        canary = shell.folder / "canary.png"
        canary.write_bytes(PNG)
        urls = [str(canary), canary.as_uri(), f"{server.base_url}/image.png", "data:image/png;base64,????"]
        content = [{"type": "input_image", "image_url": url} for url in urls]

        done = import_lines(shell, *CODEX[:4], codex("response_item", type="message", role="user", content=content))

        assert "images that the session only names by their address (4)" in done.err
        [name] = [row["thread_id"] for row in shell.in_process("threads", "--json").events]
        assert {part["type"] for part in turns(shell, name)[0]["messages"][0]["parts"]} == {"text"}
        assert server.requests == []

    def test_a_circle_of_parents_ends(self, shell: Shell) -> None:
        lines = [claude("user", "u1", "u2", "Count the beds"), claude("user", "u2", "u1", "Then?")]

        assert import_lines(shell, *lines).code == 0
        assert len(turns(shell)) == 2

    @pytest.mark.parametrize("lines", [CODEX[:4], CLAUDE[:1] + CLAUDE[-1:]])
    def test_a_session_without_messages_makes_no_thread(self, shell: Shell, lines: list[dict[str, Any]]) -> None:
        import_lines(shell, *lines)

        assert shell.in_process("threads", "--json").events == []

    @pytest.mark.parametrize("program", SESSIONS)
    def test_a_name_that_is_taken_is_refused_or_numbered(self, shell: Shell, program: str) -> None:
        other = "claude" if program == "codex" else "codex"
        import_lines(shell, *SESSIONS[program])

        refused = import_lines(shell, *SESSIONS[other])

        assert refused.code == 2
        assert "there is already a thread 'count-the-beds'; --rename" in refused.err
        path = shell.folder / "session.jsonl"
        path.write_text("".join(f"{json.dumps(line)}\n" for line in SESSIONS[other]))
        done = shell.in_process("threads", "import", "session.jsonl", "--rename")
        assert "'count-the-beds' is imported as 'count-the-beds-2'" in done.err
