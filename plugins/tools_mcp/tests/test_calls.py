"""What a call of a server's tool returns, and what a server may not do meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from afkcli.plugin import MAX_OUTPUT_CHARS


def test_a_tool_is_named_after_its_server_and_answers(scripted: Any) -> None:
    async def scenario(bench: Any) -> str:
        return await bench.call("s.echo", text="hello")

    assert scripted.use(scenario) == "you said hello"


def test_wrong_arguments_are_refused_before_the_server_is_asked(scripted: Any) -> None:
    async def scenario(bench: Any) -> str:
        return await bench.error("s.echo", text=3)

    assert "text: 3 is not of type 'string'" in scripted.use(scenario)
    assert "call echo" not in scripted.notes


def test_a_tool_changes_things_unless_the_config_says_otherwise(scripted: Any) -> None:
    """The scripted server hints that all of its tools only read."""

    async def scenario(bench: Any) -> dict[str, tuple[bool, bool]]:
        return {name: (tool.changes, tool.pinned) for name, tool in (await bench.tools()).items()}

    flags = scripted.use(scenario, read_only=["echo", "env"])

    assert flags["s.echo"] == (False, True)
    assert flags["s.env"] == (False, True)
    assert flags["s.fail"] == (True, True)


def test_a_read_only_tool_that_is_not_there_raises_a_warning(scripted: Any, warned: list[tuple[str, str]]) -> None:
    async def scenario(bench: Any) -> None:
        await bench.tools()

    scripted.use(scenario, read_only=["echoo"])

    line = "the MCP server 's': `read_only` names the tool 'echoo', which the server does not have"
    assert warned == [("mcp_server", line)]


def test_images_and_resources_become_short_marks(scripted: Any) -> None:
    async def scenario(bench: Any) -> str:
        return await bench.call("s.media")

    assert scripted.use(scenario).splitlines() == [
        "Here:",
        "[image, image/png, 4 bytes; left out: models take PNG, JPEG, GIF and WebP images only]",
        "[audio, audio/wav, 4 bytes]",
        "[resource, file:///a\u241b[31m, 12 bytes]",
        "[resource, memo:1, text/plain, 6 bytes]",
        "a memo",
        "[resource, memo:2, 4 bytes]",
    ]


PNG = b"\x89PNG\r\n\x1a\n\x00 and so on"


def test_images_are_images_in_every_form_in_which_servers_send_them(scripted: Any) -> None:
    async def scenario(bench: Any) -> Any:
        return await (await bench.tools())["s.pictures"].output({})

    output = scripted.use(scenario)
    image, broken = f"[image, image/png, {len(PNG)} bytes]", "[image, image/png, 8 bytes, not in base64]"
    resource = f"[resource, memo:3, image/png, {len(PNG)} bytes]"
    named = f"[image memo:3, image/png, {len(PNG)} bytes]"
    assert output.text.splitlines() == [*[image] * 4, resource, named, broken]
    assert list(output.contents.values()) == [PNG]
    assert len(output.images) == 5


def test_an_error_with_an_image_has_a_mark_in_its_place(scripted: Any) -> None:
    async def scenario(bench: Any) -> str:
        return await bench.error("s.picture_of_an_error")

    assert scripted.use(scenario) == f"blocked\n[image, image/png, {len(PNG)} bytes]"


def test_the_text_beside_an_image_is_cut_to_the_setting(scripted: Any) -> None:
    async def scenario(bench: Any) -> Any:
        return await (await bench.tools())["s.picture_and_text"].output({})

    output = scripted.use(scenario, max_output=100)
    assert "[... 900 characters were cut out here ...]" in output.text
    assert len(output.images) == 1


def test_structured_content_is_json_where_there_is_no_text(scripted: Any) -> None:
    async def scenario(bench: Any) -> str:
        return await bench.call("s.structured")

    assert json.loads(scripted.use(scenario)) == {"degrees": 21, "sky": "blue"}


def test_structured_content_is_given_beside_a_text_that_does_not_say_the_same(scripted: Any) -> None:
    async def scenario(bench: Any) -> list[str]:
        return [await bench.call(f"s.structured_{kind}") for kind in ("beside", "repeated", "wrapped")]

    beside, repeated, wrapped = scripted.use(scenario)

    assert beside == 'It is warm.\n{"degrees":21}'
    assert json.loads(repeated) == {"degrees": 21}
    assert wrapped == "21"


def test_an_error_of_the_tool_is_a_tool_error_with_its_text(scripted: Any) -> None:
    async def scenario(bench: Any) -> list[str]:
        return [await bench.error("s.fail"), await bench.error("s.fail_silently")]

    assert scripted.use(scenario) == [
        "the file is not there\nlook elsewhere",
        "the MCP server 's' says that the call failed, and not why",
    ]


def test_an_error_of_the_protocol_is_one_line(scripted: Any) -> None:
    async def scenario(bench: Any) -> list[str]:
        return [await bench.error("s.error"), await bench.error("s.no_result"), await bench.call("s.echo", text="on")]

    error, no_result, echo = scripted.use(scenario)

    assert error == "the MCP server 's' refused: two lines of \u241b[31mred"
    assert no_result.startswith("the MCP server 's' answered in no form of the protocol: ")
    assert "\n" not in no_result
    assert echo == "you said on"


def test_a_long_result_is_cut_visibly(scripted: Any) -> None:
    async def scenario(bench: Any) -> str:
        return await bench.call("s.large")

    whole, short = scripted.use(scenario), scripted.use(scenario, max_output=100)

    assert len(whole) < MAX_OUTPUT_CHARS + 100
    assert whole.startswith("begin ")
    assert whole.endswith(" end")
    assert "characters were cut out here" in whole
    assert len(short) < 200
    assert "[... 299910 characters were cut out here ...]" in short


def test_half_a_character_is_replaced(scripted: Any) -> None:
    async def scenario(bench: Any) -> str:
        return await bench.call("s.surrogate")

    assert scripted.use(scenario) == "half a \ufffd pair"


def test_parallel_calls_share_one_server_which_is_started_once(scripted: Any) -> None:
    async def scenario(bench: Any) -> list[str]:
        await bench.tools()
        return await asyncio.gather(*(bench.call("s.slow") for _ in range(5)))

    answers = scripted.use(scenario)

    assert len(set(answers)) == 1
    assert scripted.notes.count("start") == 1


def test_first_calls_in_parallel_start_one_server(scripted: Any) -> None:
    async def learn(bench: Any) -> None:
        await bench.tools()

    async def scenario(bench: Any) -> list[str]:
        return await asyncio.gather(*(bench.call("s.slow") for _ in range(5)))

    scripted.use(learn)
    answers = scripted.use(scenario)

    assert len(set(answers)) == 1
    assert scripted.notes.count("start") == 2


def test_sampling_elicitation_and_roots_are_refused(scripted: Any) -> None:
    async def scenario(bench: Any) -> str:
        return await bench.call("s.ask")

    sampling, elicitation, roots, ping = json.loads(scripted.use(scenario))

    for answer, what in ((sampling, "Sampling"), (elicitation, "Elicitation"), (roots, "List roots")):
        assert answer["message"] == f"{what} not supported"
    assert ping == {}


def test_a_server_of_the_newest_protocol_alone_is_asked_in_it(scripted: Any) -> None:
    async def scenario(bench: Any) -> tuple[str, str, str]:
        return await bench.call("s.modern"), await bench.error("s.want_input"), await bench.call("s.modern")

    assert scripted.use(scenario, at_start="modern", lists="modern") == (
        "new",
        "the MCP server 's' asks for more input in the middle of a call; afk gives none",
        "new",
    )


def test_a_server_gets_a_few_variables_and_those_of_the_config(
    scripted: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY", "AFK_MODEL", "SSH_AUTH_SOCK"):
        monkeypatch.setenv(name, "never-to-be-seen")
    monkeypatch.setenv("LC_TIME", "C")
    monkeypatch.setenv("MY_TOKEN", "token-0123456789")

    async def scenario(bench: Any) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await bench.call("s.env"))
        return found

    env = {"GREETING": "hello", "SERVICE_TOKEN": "Bearer ${MY_TOKEN}"}
    found = scripted.use(scenario, env=env, cwd=str(tmp_path))

    allowed = {"PATH", "HOME", "LANG", "TERM", "TMPDIR", "USER", "SHELL"} | set(env)
    names = set(found["env"]) - {"LC_CTYPE"}  # which Python itself sets in the C locale
    assert {name for name in names if not name.startswith("LC_")} <= allowed
    assert "never-to-be-seen" not in json.dumps(found)
    assert found["env"]["LC_TIME"] == "C"
    assert found["env"]["PATH"] == os.environ["PATH"]
    assert found["env"]["GREETING"] == "hello"
    assert found["env"]["SERVICE_TOKEN"] == "Bearer token-0123456789"
    assert found["cwd"] == str(tmp_path)
    assert found["session"] is True


def test_a_call_that_is_cancelled_is_cancelled_at_the_server(scripted: Any) -> None:
    async def scenario(bench: Any) -> str:
        await bench.tools()
        call = asyncio.ensure_future(bench.call("s.hang"))
        await scripted.noted("call hang")
        call.cancel()
        await asyncio.wait({call})
        assert call.cancelled()
        await scripted.noted("cancelled")
        return str(await bench.call("s.echo", text="still here"))

    assert scripted.use(scenario) == "you said still here"
