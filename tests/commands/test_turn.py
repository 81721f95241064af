"""A turn as a function: it takes an invocation and a request, and returns how it ended."""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from afkcli.commands.turn import run_turn
from afkcli.commands.turn_request import TurnRequest
from afkcli.core.contract.ids import uuid7
from afkcli.host.ending import Ending
from afkcli.testing.model_script import Fault, Step
from afkcli.testing.model_server import ModelServer
from tests.commands.conftest import on_terminal
from tests.e2e.shell import LIMIT, Shell
from tests.in_process import call_in_process

Turn = Callable[..., tuple[Ending, str, str]]


@pytest.fixture
def turn(keyed: Shell) -> Turn:
    """Return what runs a turn of a request in this process."""

    def call(
        request: TurnRequest, *, stdin: bytes | None = None, stop_signals: tuple[int, ...] = ()
    ) -> tuple[Ending, str, str]:
        ending, out, err = call_in_process(
            lambda invocation: run_turn(invocation, request),
            folder=keyed.folder,
            environment=keyed.environment(),
            stdin=stdin,
            stop_signals=stop_signals,
        )
        return ending, out.decode(), err.decode()

    return call


def test_it_returns_how_it_ended_and_writes_the_answer_to_the_stdout_of_the_invocation(turn: Turn) -> None:
    assert turn(TurnRequest(words=("hi",), thread="t")) == (Ending(0), "reply 1: hi\n", "")


def test_two_turns_in_one_process_are_two_turns_of_a_thread(turn: Turn, server: ModelServer) -> None:
    turn(TurnRequest(words=("one",), thread="t"))
    assert turn(TurnRequest(words=("-",), thread="t"), stdin=b"two")[1] == "reply 2: two\n"
    assert [len(request.body["messages"]) for request in server.requests] == [1, 3]


@pytest.mark.parametrize(
    ("request_", "code", "line"),
    [
        (TurnRequest(), 2, "no message was given"),
        (TurnRequest(words=("hi",), json=True, final=True), 2, "--json and --final"),
        (TurnRequest(words=("hi",), thread="a", continue_=True), 2, "--continue and --thread"),
        (TurnRequest(words=("hi",), plugins=(Path("missing.py"),)), 2, "missing.py"),
        (TurnRequest(thread="t", resume=True), 2, "'t'"),
        (TurnRequest(words=("hi",), run_id="mine"), 2, "UUIDv7"),
    ],
)
def test_an_error_is_one_line_and_a_code(turn: Turn, request_: TurnRequest, code: int, line: str) -> None:
    ending, out, err = turn(request_)
    assert (ending, out) == (Ending(code), "")
    assert line in err
    assert err.count("\n") == 1


def test_a_failing_model_is_a_code_and_no_exception(turn: Turn, server: ModelServer) -> None:
    server.script(Step(status=401))
    ending, _, err = turn(TurnRequest(words=("hi",), thread="t"))
    assert ending == Ending(4)
    assert "401" in err


def test_an_error_inside_afk_is_a_line_and_code_1(turn: Turn, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr("afkcli.wiring.assembly.load_setup", fail)
    ending, _, err = turn(TurnRequest(words=("hi",)))
    assert ending == Ending(1)
    assert "something went wrong inside afk: ZeroDivisionError: odd" in err


def test_a_run_id_is_taken_and_one_in_use_is_refused(turn: Turn, keyed: Shell) -> None:
    run_id = uuid7()
    assert turn(TurnRequest(words=("hi",), run_id=run_id))[0] == Ending(0)
    assert {event["run_id"] for event in keyed.log()} == {run_id}
    ending, _, err = turn(TurnRequest(words=("hi",), run_id=run_id))
    assert ending == Ending(2)
    assert run_id in err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a handler gets")
def test_a_stop_signal_is_returned_and_the_handlers_are_as_before(turn: Turn, server: ModelServer) -> None:
    stopped = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    try:
        mine = signal.getsignal(signal.SIGTERM)
        server.script(Step(text="a b c d e", fault=Fault.HANG, fault_after=2))

        def kill() -> None:
            server.wait_for_requests(1, LIMIT)
            os.kill(os.getpid(), signal.SIGTERM)

        killing = threading.Thread(target=kill)
        killing.start()
        ending, _, _ = turn(TurnRequest(words=("hi",), thread="t"), stop_signals=(signal.SIGTERM,))
        killing.join()
        server.release()
        assert ending.signal == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) is mine
        assert stopped == []
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_it_leaves_the_process_as_it_was(turn: Turn) -> None:
    def state() -> tuple[object, ...]:
        return (
            dict(os.environ),
            Path.cwd(),
            sys.stdin,
            sys.stdout,
            sys.stderr,
            gc.isenabled(),
            signal.getsignal(signal.SIGINT),
        )

    before = state()
    turn(TurnRequest(words=("hi",), thread="t"))
    turn(TurnRequest(words=("hi",), json=True, final=True))
    assert state() == before


class TestLastLines:
    def test_a_terminal_gets_what_the_run_took(self, keyed: Shell) -> None:
        code, seen = on_terminal(keyed, "run", "-n", "-t", "t", "hi", NO_COLOR="1")
        assert code == 0
        assert re.search(
            r"\r\nafk: openai/gpt-5\.2-mini · \d+ in, \d+ out( · (below )?\$[\d.]+)? · \d+\.\d s\r\n$", seen
        )

    def test_quiet_leaves_it_out(self, keyed: Shell) -> None:
        for option in ("-q", "--quiet"):
            code, seen = on_terminal(keyed, "run", "-n", option, "-t", "t", "hi", NO_COLOR="1")
            assert (code, "openai/" in seen) == (0, False)

    def test_a_pipe_gets_no_such_line(self, keyed: Shell) -> None:
        assert keyed.in_process("run", "-t", "t", "hi").err == ""

    def test_a_cut_answer_has_the_command_that_goes_on_with_it(self, keyed: Shell, server: ModelServer) -> None:
        server.script(Step(text="half", finish_reason="length"))
        code, seen = on_terminal(keyed, "run", "-n", "-t", "two words", "hi", NO_COLOR="1")
        assert code == 3
        assert "afk: `afk threads resume 'two words'` continues it\r\n" in seen
