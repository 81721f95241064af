"""Text is written where the system starts no thread, because the limit of processes is reached."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from afkcli.host.descriptors import LinesForPeople, WriteWorker


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)


def test_output_is_written_by_the_caller(pipe: tuple[int, int], no_threads: None) -> None:
    ended: list[OSError | None] = []

    worker = WriteWorker(pipe[1])
    worker.put(b"one ", ended.append)
    worker.put(b"two", ended.append)

    assert os.read(pipe[0], 100) == b"one two"
    assert ended == [None, None]


def test_an_output_that_cannot_be_written_is_told(no_threads: None) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended: list[OSError | None] = []

    WriteWorker(writer).put(b"one", ended.append)

    assert isinstance(ended[0], BrokenPipeError)
    os.close(writer)


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_a_line_for_a_person_is_written_at_once(
    pipe: tuple[int, int], no_threads: None, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    reader, writer = pipe
    if kind == "file":
        path = tmp_path_factory.mktemp("lines") / "file"
        writer = os.open(path, os.O_WRONLY | os.O_CREAT)
        reader = os.open(path, os.O_RDONLY)
    lines = LinesForPeople(writer, "stderr")
    for number in range(3):
        lines.write(b"%d\n" % number)
    lines.wait(1)
    lines.close()

    assert os.read(reader, 100) == b"0\n1\n2\n"
    if kind == "file":
        os.close(reader)
        os.close(writer)


def test_a_reader_that_is_slow_is_waited_for(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Text that does not fit into the pipe is not lost."""
    text = b"a line of text\n" * 20_000
    got = bytearray()

    def read() -> None:
        while len(got) < len(text):
            got.extend(os.read(pipe[0], 1 << 16))

    reader = threading.Thread(target=read)
    reader.start()

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    lines = LinesForPeople(pipe[1], "stderr")
    lines.write(text)
    reader.join()
    lines.close()

    assert bytes(got) == text
