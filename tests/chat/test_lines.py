"""The chat line by line: from pipes and files, and on a terminal on which nothing is drawn again."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from afkcli.chat.lines import LineReader
from afkcli.chat.reading import Left, Stopped, UnreadableError, continues
from afkcli.host.invocation import Invocation, Stream
from afkcli.screen.messages import Messages


@pytest.fixture
def messages() -> Messages:
    return Messages(Invocation.of_process())


def read_all(reader: LineReader) -> list[str]:
    """Return the texts that are read until the input ends; what is not text is "!"."""

    async def work() -> list[str]:
        texts = []
        while True:
            try:
                texts.append(await reader.read())
            except UnreadableError:
                texts.append("!")
            except Left:
                return texts

    return asyncio.run(work())


@pytest.mark.parametrize("kind", ["pipe", "file"])
@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (b"", []),
        (b"\n\n", []),
        (b"hi\n", ["hi"]),
        (b"hi", ["hi"]),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b"\n\none\n  \ntwo", ["one", "two"]),
        (b"one\\\ntwo\nthree\n", ["one\ntwo", "three"]),
        (b"one\\\\\ntwo\n", ["one\\\\", "two"]),
        (b"ends\\", ["ends\\"]),
        (b"\xef\xbb\xbfwith a mark\n", ["with a mark"]),
        ("日本語\n\u0645\u0631\n".encode(), ["日本語", "\u0645\u0631"]),
        (b"good\n\xff\xfe\nagain\n", ["good", "!", "again"]),
        (b"a\0b\nc\n", ["!", "c"]),
    ],
)
def test_each_line_is_a_message(messages: Messages, tmp_path: Path, kind: str, data: bytes, texts: list[str]) -> None:
    if kind == "file":
        (tmp_path / "file").write_bytes(data)
        descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    else:
        descriptor, end = os.pipe()
        os.write(end, data)
        os.close(end)
    try:
        assert read_all(LineReader(Stream(descriptor, None), messages, ())) == texts
    finally:
        os.close(descriptor)


def test_a_stop_signal_ends_the_reading(messages: Messages) -> None:
    descriptor, end = os.pipe()
    reader = LineReader(Stream(descriptor, None), messages, (signal.SIGTERM, signal.SIGINT))
    for number in (signal.SIGTERM, signal.SIGINT):

        async def work(number: int) -> None:
            asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), number)
            await reader.read()

        with pytest.raises(Stopped) as stopped:
            asyncio.run(work(number))
        assert stopped.value.number == number
    os.close(descriptor)
    os.close(end)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for is seen from outside
        await asyncio.sleep(0.01)


class Plain:
    """A terminal whose other side the test is; `shown` is what the chat wrote."""

    def __init__(self, messages: Messages) -> None:
        self.main, self.side = pty.openpty()
        self.shown: list[str] = []
        self.reader = LineReader(Stream(self.side, None), messages, (signal.SIGINT,), write=self.shown.append)

    def type(self, text: str) -> None:
        os.write(self.main, text.encode())


@pytest.fixture
def plain(messages: Messages) -> Iterator[Plain]:
    terminal = Plain(messages)
    yield terminal
    os.close(terminal.main)
    os.close(terminal.side)


def test_a_line_is_sent_by_enter_behind_a_prompt(plain: Plain) -> None:
    plain.type("hello\n")

    assert asyncio.run(plain.reader.read()) == "hello"
    assert plain.shown == ["> "]


def test_a_backslash_at_the_end_continues_the_line(plain: Plain) -> None:
    async def work() -> str:
        reading = asyncio.ensure_future(plain.reader.read())
        plain.type("one\\\n")
        await until(lambda: plain.shown == ["> ", ". "])
        plain.type("two\n")
        return await reading

    assert asyncio.run(work()) == "one\ntwo"


@pytest.mark.parametrize(("end", "enters"), [("\n", 1), ("", 2)])
def test_a_hundred_lines_that_are_pasted_wait_for_one_more_enter(plain: Plain, end: str, enters: int) -> None:
    """Without a newline at the end of the paste, the first Enter ends its last line."""
    lines = [f"line {number}" for number in range(100)]

    async def work() -> str:
        reading = asyncio.ensure_future(plain.reader.read())
        plain.type("\n".join(lines) + end)
        for count in range(1, enters + 1):
            await until(lambda count=count: plain.shown.count(". ") == count)  # type: ignore[misc]
            assert not reading.done()
            plain.type("\n")
        return await reading

    assert asyncio.run(work()).splitlines() == lines


def test_ctrl_d_leaves(plain: Plain) -> None:
    plain.type("\x04")

    with pytest.raises(Left):
        asyncio.run(plain.reader.read())


def test_ctrl_c_twice_leaves_and_once_does_not(plain: Plain) -> None:
    async def interrupted(then: Callable[[], None]) -> str:
        reading = asyncio.ensure_future(plain.reader.read())
        before = len(plain.shown)
        await until(lambda: len(plain.shown) > before)
        os.kill(os.getpid(), signal.SIGINT)
        await until(lambda: plain.shown[before:] == ["> ", "\n", "> "])
        then()
        return await reading

    assert asyncio.run(interrupted(lambda: plain.type("hi\n"))) == "hi"
    with pytest.raises(Left):
        asyncio.run(interrupted(lambda: os.kill(os.getpid(), signal.SIGINT)))


@pytest.mark.parametrize(("text", "does"), [("a\\", True), ("a\\\\", False), ("a", False), ("\\", True), ("", False)])
def test_an_odd_number_of_backslashes_continues(text: str, does: bool) -> None:
    assert continues(text) is does
