"""A server that hangs, dies or floods ends its call with one line, and takes nothing else down."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import Mapping
from typing import Any

import pytest
from afk_tools_mcp.guard import MAX_MESSAGE_BYTES

from afkcli.plugin import ToolError

MEGABYTES = 1024  # of ru_maxrss, which counts kilobytes


def listing_error(scripted: Any, **kinds: Any) -> str:
    """Return the line that says why the tools cannot be listed."""

    async def scenario(bench: Any) -> str:
        with pytest.raises(ToolError) as caught:
            await bench.tools()
        return str(caught.value)

    line: str = scripted.use(scenario, **kinds)
    assert "\n" not in line
    return line


def test_a_server_that_hangs_at_its_start_is_given_up(scripted: Any) -> None:
    assert listing_error(scripted, at_start="hang", start_timeout=4) == (
        "the MCP server 's' did not start and list its tools within 4 s; its stderr ends with: loading the index"
    )


def test_a_server_that_dies_at_its_start_is_reported_with_its_last_line(scripted: Any) -> None:
    assert listing_error(scripted, at_start="die") == (
        "the MCP server 's' ended (exit code 7); its stderr ends with: the database is locked"
    )
    assert scripted.notes == ["start"]


def test_a_server_that_hangs_at_its_list_is_given_up(scripted: Any) -> None:
    assert "did not start and list its tools within 1 s" in listing_error(scripted, lists="hang", start_timeout=1)


def test_a_server_that_dies_at_its_list_is_reported(scripted: Any) -> None:
    assert listing_error(scripted, lists="die") == (
        "the MCP server 's' ended (exit code 9); its stderr ends with: no memory left"
    )


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ("huge", "lists more tools than afk takes, 1000 tools and 4 MB at most"),
        ("long", "lists more tools than afk takes, 1000 tools and 4 MB at most"),
        (
            "endless",
            "lists no tools, and its list of tools does not come to an end: the same page comes again; what it listed "
            "before is kept",
        ),
    ],
)
def test_a_list_without_measure_is_refused(scripted: Any, lists: str, said: str) -> None:
    assert listing_error(scripted, lists=lists) == f"the MCP server 's' {said}"


def test_a_program_that_is_not_there_is_named(scripted: Any) -> None:
    assert listing_error(scripted, command="no-such-program") == (
        "the MCP server 's' cannot be started: there is no program 'no-such-program'; see [tools.mcp.servers.s] command"
    )


def test_a_folder_that_is_not_there_is_named(scripted: Any) -> None:
    assert listing_error(scripted, cwd="/no/such/folder") == (
        "the MCP server 's' cannot be started: its `cwd` '/no/such/folder' is not a folder"
    )


def test_a_program_that_cannot_be_executed_is_reported(scripted: Any, tmp_path: Any) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x00\x01")
    program.chmod(0o755)

    assert "cannot be started: " in listing_error(scripted, command=str(program))


def test_what_a_server_greets_with_on_stdout_does_not_matter(scripted: Any) -> None:
    async def scenario(bench: Any) -> str:
        return str(await bench.call("s.echo", text="hello"))

    assert scripted.use(scenario, at_start="greet") == "you said hello"


def test_tools_that_are_described_wrongly_are_left_out_with_a_warning(
    scripted: Any, warned: list[tuple[str, str]]
) -> None:
    async def scenario(bench: Any) -> Mapping[str, str]:
        return {name: tool.description for name, tool in (await bench.tools()).items()}

    tools = scripted.use(scenario, lists="odd")

    assert tools == {"s.good": "A title", "s.no_schema": "", "s.bad_type": ""}
    said = [message.removeprefix("the MCP server 's': the tool ") for _, message in warned]
    described = "it is not described as the protocol asks, by a name and the JSON Schema of an object"
    assert said == [
        f"'not_an_object' is left out: {described}",
        "'bad\\x1b[31mname' is left out: its name is not one of up to 128 letters, digits, `_`, `-`, `.` and `/`",
        "'good' is left out: the server has two of that name",
        f"'deep' is left out: {described}",
        "'a text' is left out: its name is not one of up to 128 letters, digits, `_`, `-`, `.` and `/`",
    ]


def test_a_list_of_several_pages_is_read_whole(scripted: Any) -> None:
    async def scenario(bench: Any) -> list[str]:
        return list(await bench.tools())

    assert scripted.use(scenario, lists="pages") == ["s.page0", "s.page1", "s.page2"]


@pytest.mark.parametrize(
    ("lists", "names", "said"),
    [
        ("same_cursor", ["s.page0", "s.page1"], "the same page comes again"),
        ("same_page", ["s.page0"], "the same page comes again"),
        ("in_a_circle", ["s.page0", "s.page1", "s.page2"], "the same page comes again"),
        ("without_end", [f"s.page{n}" for n in range(200)], "more than 200 pages"),
    ],
)
def test_a_list_that_does_not_end_keeps_the_tools_so_far(
    scripted: Any, warned: list[tuple[str, str]], lists: str, names: list[str], said: str
) -> None:
    async def scenario(bench: Any) -> list[str]:
        return list(await bench.tools())

    assert scripted.use(scenario, lists=lists) == names
    ((_, line),) = warned
    assert said in line


def test_an_empty_cursor_leads_to_the_next_page_where_there_is_one(scripted: Any) -> None:
    async def scenario(bench: Any) -> list[str]:
        return list(await bench.tools())

    assert scripted.use(scenario, lists="by_empty_cursor") == ["s.page0", "s.page1"]


def test_an_empty_cursor_that_leads_nowhere_is_the_end_of_the_list(
    scripted: Any, warned: list[tuple[str, str]]
) -> None:
    async def scenario(bench: Any) -> list[str]:
        return list(await bench.tools())

    assert scripted.use(scenario, lists="empty_cursor") == ["s.page0"]
    assert warned == []


def test_schemas_of_older_drafts_and_other_languages_are_read_as_they_are_meant(
    scripted: Any, warned: list[tuple[str, str]]
) -> None:
    async def scenario(bench: Any) -> dict[str, Any]:
        return {name: tool.spec.parameters for name, tool in (await bench.tools()).items()}

    found = scripted.use(scenario, lists="drafts")

    empty = {"type": "object", "properties": {}}
    assert found == {
        "s.absent": empty,
        "s.null": empty,
        "s.empty": empty,
        "s.php": empty,
        "s.untyped": {"properties": {"a": {"type": "string"}}, "type": "object"},
        "s.nulls": {"type": "object", "properties": {"a": {"type": "string"}}},
        "s.draft3": {"type": "object", "properties": {"a": {}, "b": {"type": "string"}}, "required": ["a"]},
        "s.draft4": {"type": "object", "properties": {"a": {"type": "integer", "exclusiveMinimum": 1}}},
        "s.python": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "array", "items": {"type": "number"}}},
        },
        "s.pattern": {"type": "object", "properties": {"a": {"type": "string", "pattern": "^\\p{L}+$"}}},
        "s.beyond": {"type": "object", "properties": {"a": {}}},
    }
    ((_, line),) = warned
    assert "the schema of the tool 'beyond' is left out, its arguments are not checked" in line


def test_an_argument_that_is_null_where_the_tool_may_do_without_it_is_left_out(scripted: Any) -> None:
    async def scenario(bench: Any) -> Any:
        return json.loads(await bench.call("s.arguments", text="a", limit=None, nullable=None))

    assert scripted.use(scenario, lists="nullable") == {"text": "a", "nullable": None}


def test_a_server_that_asks_for_the_same_call_again_gets_it_with_its_state(scripted: Any) -> None:
    async def scenario(bench: Any) -> tuple[str, str]:
        return await bench.call("s.again"), await bench.error("s.again_for_ever")

    again, for_ever = scripted.use(scenario, at_start="modern", lists="modern")

    assert again == "third time, with state 2"
    assert for_ever == "the MCP server 's' asks for the same call again more than 10 times"


@pytest.mark.parametrize("at_start", ["modern", "modern_invalid_request", "modern_invalid_params", "modern_version"])
def test_a_server_of_the_newest_protocol_is_spoken_to_however_it_refuses_the_handshake(
    scripted: Any, at_start: str
) -> None:
    async def scenario(bench: Any) -> str:
        return str(await bench.call("s.modern"))

    assert scripted.use(scenario, at_start=at_start, lists="modern") == "new"


def test_a_server_that_hangs_in_a_call_is_not_waited_for(scripted: Any) -> None:
    async def scenario(bench: Any) -> tuple[str, str]:
        error = await bench.error("s.hang")
        return error, await bench.call("s.echo", text="the others go on")

    error, echo = scripted.use(scenario, timeout=2)

    assert error == "the MCP server 's' did not answer within 2 s; its stderr ends with: waiting for the printer"
    assert echo == "you said the others go on"
    assert scripted.notes.count("start") == 1


def died(how: str) -> str:
    return f"the MCP server 's' ended ({how})"


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        ("die", died("exit code 3") + "; its stderr ends with: segmentation \u241b[31mfault"),
        ("close", died("it closed its stdout")),
        ("leave_child", died("exit code 4")),
        ("endless_notifications", "the MCP server 's' was ended: it sends more messages than afk takes"),
        ("endless_requests", "the MCP server 's' was ended: it sends more messages than afk takes"),
        ("big", f"failed: it sent a message of more than {MAX_MESSAGE_BYTES // 1024 // 1024} MB"),
        ("many_values", "failed: it sent a message of more than 500000 values"),
        ("malformed", "failed: it sent a line that is not a message of the protocol"),
    ],
)
def test_a_server_that_dies_or_floods_in_a_call_fails_that_call(scripted: Any, tool: str, said: str) -> None:
    """The next call has a server again, and this process has not grown by what was sent."""

    async def scenario(bench: Any) -> tuple[str, str]:
        await bench.call("s.echo", text="first")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        error = await bench.error(f"s.{tool}")
        again = await bench.call("s.echo", text="again")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * MEGABYTES
        return error, again

    error, again = scripted.use(scenario)

    assert error.endswith(said)
    assert "\n" not in error
    assert again == "you said again"


def test_a_message_that_is_too_long_does_not_end_the_server(scripted: Any) -> None:
    async def scenario(bench: Any) -> None:
        await bench.error("s.big")
        await bench.call("s.echo", text="again")

    scripted.use(scenario)

    assert scripted.notes.count("start") == 1


def test_a_line_without_end_is_not_stored_and_ends_the_server(scripted: Any) -> None:
    async def scenario(bench: Any) -> list[str]:
        errors = [await bench.error("s.endless_line")]
        while scripted.notes.count("start") < 2:
            try:
                errors.append(await bench.call("s.echo", text="again"))
            except ToolError as error:
                errors.append(str(error))
        return errors

    first, *_, last = scripted.use(scenario)

    assert first.endswith(f"it sent a message of more than {MAX_MESSAGE_BYTES // 1024 // 1024} MB")
    assert last == "you said again"


def test_all_calls_that_wait_fail_with_the_server(scripted: Any) -> None:
    async def scenario(bench: Any) -> list[str]:
        await bench.tools()
        waiting = [asyncio.ensure_future(bench.error("s.hang")) for _ in range(3)]
        await scripted.noted("call hang", times=3)
        return [await bench.error("s.die"), *await asyncio.gather(*waiting)]

    for line in scripted.use(scenario):
        assert line.startswith("the MCP server 's' ended (exit code 3)")


@pytest.mark.parametrize("tool", ["notify", "endless_stderr"])
def test_a_server_that_talks_a_lot_still_answers(scripted: Any, tool: str, capfd: pytest.CaptureFixture[str]) -> None:
    async def scenario(bench: Any) -> str:
        return str(await bench.call(f"s.{tool}"))

    assert scripted.use(scenario) == {"notify": "done", "endless_stderr": "said a lot"}[tool]
    assert capfd.readouterr().err == ""


def test_a_server_that_fails_says_nothing_on_the_terminal(scripted: Any, capfd: pytest.CaptureFixture[str]) -> None:
    async def scenario(bench: Any) -> None:
        for tool in ("malformed", "no_result", "error", "big", "die"):
            await bench.error(f"s.{tool}")

    scripted.use(scenario, at_start="greet")

    assert capfd.readouterr().err == ""


def test_a_secret_in_the_last_words_is_masked(scripted: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("MY_TOKEN", "token-9876543210")
    script = tmp_path / "shouts.py"
    script.write_text("import os, sys\nsys.exit('bad token ' + os.environ['SERVICE_TOKEN'])\n")
    env = {"SERVICE_TOKEN": "${MY_TOKEN}"}

    line = listing_error(scripted, args=[str(script)], env=env)

    assert line.endswith("its stderr ends with: bad token ***")


def test_progress_that_does_not_change_does_not_extend_a_call(scripted: Any) -> None:
    async def scenario(bench: Any) -> tuple[str, str]:
        return await bench.error("s.endless_progress"), await bench.call("s.echo", text="again")

    error, again = scripted.use(scenario, timeout=1)

    assert "within 1 s" in error
    assert again == "you said again"
