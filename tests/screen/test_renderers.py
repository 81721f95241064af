"""What a person sees: the answer alone on stdout, safe on a terminal; everything else on stderr."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import sys
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afkcli.core.contract.errors import ErrorKind
from afkcli.core.contract.events import (
    Completed,
    ErrorEvent,
    Event,
    ReasoningDeltaEvent,
    Retrying,
    TextDeltaEvent,
    ToolCompleted,
    ToolProgress,
    ToolStarted,
    Warned,
)
from afkcli.core.contract.result import AgentResult, RunState, Usage
from afkcli.core.contract.text import one_line, visible
from afkcli.host.invocation import Invocation
from afkcli.screen.messages import Messages
from afkcli.screen.renderers import JsonRenderer, Reasoning, Renderer, TextRenderer, final_answer
from afkcli.screen.streams import Output, is_disconnected

HEADER: dict[str, Any] = {"run_id": "r", "thread_id": "t", "thread_key": "k", "turn": 1, "seq": 0, "ts": ""}


def text(delta: str, step: int = 1) -> Event:
    return TextDeltaEvent(text_delta=delta, step=step, **HEADER)


def completed(state: RunState = RunState.COMPLETED, *, final: str = "", reason: str | None = None) -> Event:
    result = AgentResult(
        final_text=final,
        state=state,
        reason=reason,
        run_id="r",
        thread_id="t",
        usage=Usage(),
        total_cost_usd=None,
        steps=1,
        tool_executions=(),
        denied=0,
        model="p/m",
    )
    return Completed(result=result, step=1, **HEADER)


class Pipe:
    """A pipe for stdout: what is written to it is read back."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def read(self) -> str:
        os.close(self.writer)
        data = b""
        while piece := os.read(self.reader, 1 << 16):
            data += piece
        os.close(self.reader)
        return data.decode()


def show(renderer: Renderer, events: Sequence[Event], *, together: bool = False) -> None:
    async def run() -> None:
        for position, event in enumerate(events):
            await renderer.show(event, more=together and position < len(events) - 1)

    asyncio.run(run())


def shown(*events: Event, terminal: bool = False, final: bool = False, together: bool = False) -> str:
    pipe = Pipe()
    output = Output(pipe.writer)
    output.is_terminal = terminal
    show(
        TextRenderer(output, Messages(Invocation.of_process()), answer=final_answer if final else None),
        events,
        together=together,
    )
    output.close()
    return pipe.read()


def reasoning(delta: str) -> Event:
    return ReasoningDeltaEvent(reasoning_delta=delta, step=1, **HEADER)


class TestReasoning:
    def shown(self, *events: Event, colours: bool = False, terminal: bool = False) -> tuple[str, str]:
        """Return what was written to stdout and to stderr."""
        out, err = Pipe(), Pipe()
        output, messages = Output(out.writer), Messages(Invocation.of_process())
        output.is_terminal, messages.colours = terminal, colours
        show(TextRenderer(output, messages, reasoning=Reasoning(messages, Output(err.writer))), events)
        output.close()
        return out.read(), err.read()

    def test_is_dim_on_stderr_and_the_answer_alone_on_stdout(self) -> None:
        events = (reasoning("a "), reasoning("b"), text("c"), text("d"), completed())
        assert self.shown(*events, colours=True) == ("cd\n", "\x1b[2ma \x1b[0m\x1b[2mb\x1b[0m\n")

    def test_without_colours_a_blank_line_tells_it_from_the_answer(self) -> None:
        assert self.shown(reasoning("a"), text("c"), completed()) == ("c\n", "a\n\n")
        assert self.shown(reasoning("a\n"), text("c"), completed()) == ("c\n", "a\n\n")

    def test_ends_the_line_of_the_answer_on_a_terminal_and_its_own(self) -> None:
        events = (text("a"), reasoning("b"), text("c"), completed())
        assert self.shown(*events, terminal=True, colours=True) == ("ac\n", "\n\x1b[2mb\x1b[0m\n")
        assert self.shown(*events, colours=True) == ("ac\n", "\x1b[2mb\x1b[0m\n")

    def test_moves_no_terminal(self) -> None:
        _, err = self.shown(reasoning("a\x1b]0;evil\x07\u202eb\n"), completed())
        assert err == "a␛]0;evil␇<U+202E>b\n\n"

    def test_is_not_shown_unasked(self) -> None:
        assert shown(reasoning("a"), text("c"), completed()) == "c\n"
        assert shown(text("b"), reasoning("a"), text("c"), completed(), together=True) == "bc\n"

    def test_a_reader_that_left_costs_no_answer(self) -> None:
        out, err = Pipe(), Pipe()
        os.close(err.reader)
        messages = Messages(Invocation.of_process())
        events = [reasoning("a"), reasoning("b"), text("c"), completed()]
        show(TextRenderer(Output(out.writer), messages, reasoning=Reasoning(messages, Output(err.writer))), events)
        os.close(err.writer)
        assert out.read() == "c\n"


class TestFinalNewline:
    @pytest.mark.parametrize(
        ("deltas", "out"),
        [(["a"], "a\n"), (["a", "b"], "ab\n"), (["a\n"], "a\n"), (["a\n\n"], "a\n\n"), (["a", "\n"], "a\n"), ([], "")],
    )
    def test_an_answer_ends_with_one_and_nothing_with_none(self, deltas: list[str], out: str) -> None:
        for together in (False, True):
            assert shown(*map(text, deltas), completed(), together=together) == out

    def test_steps_are_on_lines_of_their_own(self) -> None:
        assert shown(text("one", 1), text("two", 2), text("three\n", 3), text("four", 4), completed()) == (
            "one\ntwo\nthree\nfour\n"
        )

    def test_a_cut_answer_ends_with_one_too(self) -> None:
        error = ErrorEvent(error="it broke", kind=ErrorKind.TRUNCATED, step=1, **HEADER)
        assert shown(text("part"), error, completed(RunState.FAILED)) == "part\n"

    def test_final_shows_the_last_steps_text_only(self) -> None:
        assert shown(text("one", 1), text("two", 2), completed(final="two"), final=True) == "two\n"
        assert shown(text("one", 1), completed(final=""), final=True) == ""

    def test_reasoning_is_not_the_answer(self) -> None:
        assert shown(ReasoningDeltaEvent(reasoning_delta="hm", step=1, **HEADER), text("a"), completed()) == "a\n"


class TestNeutralisation:
    @pytest.mark.parametrize(
        "hostile",
        [
            "\x1b[2J",
            "\x1b]52;c;ZXZpbA==\x07",
            "\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\",
            "\x9b31m",
            "\x90q\x9c",
            "a\rb",
            "a\x08b",
            "\x7f",
            "\x00",
            "\u202e",
            "\u2066x\u2069",
            "\u200f",
            "\u2028",
        ],
    )
    def test_nothing_that_moves_a_terminal_gets_through_in_any_split(self, hostile: str) -> None:
        whole = shown(text(hostile), completed(), terminal=True)
        split = shown(*map(text, hostile), completed(), terminal=True)
        for out in (whole, split, one_line(hostile)):
            assert all(character.isprintable() or character == "\n" for character in out), repr(out)
        assert split == whole

    @given(st.text(st.characters(codec="utf-8")))
    def test_what_is_left_is_harmless(self, said: str) -> None:
        for character in visible(said):
            assert character in "\n\t" or not (ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0)
            assert character not in "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
        assert "\n" not in one_line(said)

    def test_a_pipe_gets_the_text_to_the_letter(self) -> None:
        assert shown(text("\x1b[1mbold\x1b[0m\r\n"), completed()) == "\x1b[1mbold\x1b[0m\r\n"

    def test_ordinary_text_of_any_language_is_untouched(self) -> None:
        said = "Grüße, 日本語, עברית, 😀 \tindented\nnext"
        assert shown(text(said), completed(), terminal=True) == said + "\n"

    def test_lines_of_tools_and_errors_are_neutralised_and_bounded(self, capsys: pytest.CaptureFixture[str]) -> None:
        evil = "\x1b]52;c;x\x07\n\u202e"
        shown(
            ToolStarted(tool_name="f", tool_call_id="1", arguments={"a": evil, "b": "x" * 100_000}, step=1, **HEADER),
            ToolProgress(tool_name="f", tool_call_id="1", message=f"half{evil}", step=1, **HEADER),
            ToolCompleted(
                tool_name="f",
                tool_call_id="1",
                tool_success=False,
                tool_output="",
                tool_error=evil + "x" * 100_000,
                latency_ms=7,
                step=1,
                **HEADER,
            ),
            Warned(code="c", message=evil, step=1, **HEADER),
            ErrorEvent(error=evil, kind=ErrorKind.INTERNAL, step=1, **HEADER),
            Retrying(attempt=2, delay_s=0.5, error=evil, step=1, **HEADER),
        )
        err = capsys.readouterr().err
        assert all(character.isprintable() or character == "\n" for character in err)
        assert err.count("\n") == 6
        assert "tool f: half" in err
        assert max(map(len, err.splitlines())) < 500
        assert "(7 ms)" in err


class TestMessages:
    @pytest.mark.parametrize(
        ("env", "err"),
        [
            ({}, "\x1b[31mafk: no\x1b[0m\n"),
            ({"NO_COLOR": "1"}, "afk: no\n"),
            ({"NO_COLOR": ""}, "\x1b[31mafk: no\x1b[0m\n"),
            ({"TERM": "dumb"}, "afk: no\n"),
        ],
    )
    def test_are_coloured_on_a_terminal_unless_that_is_not_wanted(
        self, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], err: str
    ) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        monkeypatch.delenv("NO_COLOR", raising=False)
        for name, value in {"TERM": "xterm", **env}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stderr", Terminal())
        Messages(Invocation.of_process()).error("no")
        shown_there = sys.stderr
        assert isinstance(shown_there, Terminal)
        assert shown_there.getvalue() == err

    def test_are_plain_in_a_pipe(self, capsys: pytest.CaptureFixture[str]) -> None:
        Messages(Invocation.of_process()).say("hello")
        assert capsys.readouterr().err == "afk: hello\n"

    def test_begin_on_a_line_of_their_own_beside_an_answer_on_the_same_terminal(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shown(text("part"), Warned(code="c", message="odd", step=1, **HEADER), completed(), terminal=True)
        assert capsys.readouterr().err == "\nafk: odd\n"

    def test_a_closed_stderr_is_not_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stderr", None)
        Messages(Invocation.of_process()).error("no")
        Messages(Invocation.of_process()).raw("no")

    @pytest.mark.parametrize(
        ("event", "said"),
        [
            (completed(RunState.DEGRADED, reason="length"), "cut by the model's output limit"),
            (completed(RunState.DEGRADED, reason="max_steps"), "cut by the limit max_steps"),
            (completed(RunState.INTERRUPTED, reason="taken over"), "interrupted: taken over"),
        ],
    )
    def test_an_ending_without_an_answer_is_reported(
        self, capsys: pytest.CaptureFixture[str], event: Event, said: str
    ) -> None:
        shown(event)
        assert said in capsys.readouterr().err


class TestOutput:
    def test_more_than_a_pipe_holds_is_written_without_blocking_the_loop(self) -> None:
        pipe, size = Pipe(), 1 << 20
        os.set_blocking(pipe.reader, False)
        read = bytearray()

        async def run() -> None:
            output = Output(pipe.writer)
            output.put("x" * size)
            writing = asyncio.ensure_future(output.flush())
            for _ in range(100):
                await asyncio.sleep(0)  # the loop continues while stdout is not read
            assert not writing.done()
            while len(read) < size:
                await asyncio.sleep(0)
                with contextlib.suppress(BlockingIOError):
                    read.extend(os.read(pipe.reader, 1 << 16))
            await writing

        asyncio.run(run())
        assert read == b"x" * size

    def test_a_large_piece_is_written_without_a_copy_of_what_is_left_for_each_part(self) -> None:
        """What is left was copied for every 4 KB, so the time grew with the square of the size."""
        size = 8 << 20

        async def run(output: Output) -> int:
            output.put("x" * size)
            tracemalloc.start()
            try:
                await output.flush()
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        with Path("/dev/null").open("wb") as sink:
            peak = asyncio.run(run(Output(sink.fileno())))
        assert peak < 1.5 * size, "only the encoded text; a copy of what is left would double it"

    def test_a_reader_that_left_is_not_mistaken_for_a_full_disk(self) -> None:
        pipe = Pipe()
        os.close(pipe.reader)

        async def run(output: Output) -> None:
            output.put("x")
            await output.flush()

        with pytest.raises(OSError) as left:
            asyncio.run(run(Output(pipe.writer)))
        assert is_disconnected(left.value)
        os.close(pipe.writer)
        with Path("/dev/full").open("wb") as full, pytest.raises(OSError) as no_space:
            asyncio.run(run(Output(full.fileno())))
        assert not is_disconnected(no_space.value)

    def test_lone_surrogates_do_not_stop_it(self) -> None:
        assert shown(text("a\ud800b"), completed()) == "a?b\n"

    def test_json_is_one_object_a_line(self) -> None:
        for together in (False, True):
            pipe = Pipe()
            show(JsonRenderer(Output(pipe.writer)), [text("a\nb\u2028"), completed()], together=together)
            lines = pipe.read().split("\n")
            assert [json.loads(line)["type"] for line in lines[:-1]] == ["text_delta", "completed"]
            assert lines[-1] == ""
