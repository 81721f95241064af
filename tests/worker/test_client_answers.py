"""What the compiled client sends to a worker, and what it does with each answer."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.worker.scripted_worker import COLD_CODE, Call, Client, ScriptedWorker

COLD = (COLD_CODE, b"cold one two")
KILLED = -signal.SIGKILL


def write(call: Call) -> None:
    """Write the arguments to the client's stdout, and end with code 3."""
    call.take()
    call.say(b"B")
    os.write(call.descriptors[1], b" ".join(call.arguments[1:]))
    call.say(b"X\x03")


def test_a_taken_call_writes_to_the_callers_stdout_and_ends_with_its_code(client: Client) -> None:
    with ScriptedWorker(write) as worker:
        done = client.run("one", "two", env=worker.environment)

    assert (done.returncode, done.stdout, done.stderr) == (3, b"one two", b"")


def after_go(*pieces: bytes) -> Callable[[Call], None]:
    def script(call: Call) -> None:
        call.take()
        call.say(*pieces)

    return script


def slowly(call: Call) -> None:
    """Say all bytes one by one, each when the one before has been read."""
    for byte in b"W" + struct.pack("<I", 1 << 20):
        call.say(bytes([byte]))
        time.sleep(0.01)
    call.agreed()
    for byte in b"BX\x05":
        call.say(bytes([byte]))
        time.sleep(0.01)


ANSWERS: dict[str, tuple[Callable[[Call], object], tuple[int, bytes]]] = {
    "refused": (lambda call: call.say(b"C"), COLD),
    "closed without a word": (lambda call: None, COLD),
    "garbage": (lambda call: call.say(b"HTTP/1.1 400 Bad Request\r\n"), COLD),
    "zeros": (lambda call: call.say(bytes(64)), COLD),
    "half of the process id": (lambda call: call.say(b"W\x01\x02"), COLD),
    "taken, then closed before the client has agreed": (lambda call: call.say(b"W" + bytes(4)), COLD),
    "taken, then closed before it has begun": (after_go(), COLD),
    "taken, then refused": (after_go(b"C"), COLD),
    "taken, then garbage": (after_go(b"\x00\x01"), COLD),
    "taken, and stopped without a beginning": (after_go(b"T"), COLD),
    "taken, and ended without a beginning": (after_go(b"X\x00"), COLD),
    "taken, and killed without a beginning": (after_go(b"K" + bytes([signal.SIGKILL])), COLD),
    "code 0": (after_go(b"B", b"X\x00"), (0, b"")),
    "code 130": (after_go(b"BX\x82"), (130, b"")),
    "code 255": (after_go(b"B", b"X", b"\xff"), (255, b"")),
    "killed after it has begun": (after_go(b"B"), (KILLED, b"")),
    "half of a code": (after_go(b"BX"), (KILLED, b"")),
    "garbage after it has begun": (after_go(b"B?"), (KILLED, b"")),
    "begun twice": (after_go(b"BB"), (KILLED, b"")),
    "refused after it has begun": (after_go(b"BC"), (KILLED, b"")),
    "slow": (slowly, (5, b"")),
    **{
        f"ended by {number.name}": (after_go(b"BK" + bytes([number])), (-number, b""))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE)
    },
    "ended by a real-time signal": (after_go(b"BK" + bytes([signal.SIGRTMAX])), (-signal.SIGRTMAX, b"")),
    "ended by a signal that ends nothing": (after_go(b"BK" + bytes([signal.SIGWINCH])), (128 + signal.SIGWINCH, b"")),
    "ended by no signal": (after_go(b"BK\xff"), (255, b"")),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_each_answer_ends_as_the_run_did_or_cold(client: Client, answer: str) -> None:
    script, (code, out) = ANSWERS[answer]
    with ScriptedWorker(script) as worker:
        done = client.run("one", "two", env=worker.environment)

    assert (done.returncode, done.stdout, done.stderr) == (code, out, b"")


def test_a_core_file_is_left_by_the_child_alone(client: Client, tmp_path: Path) -> None:
    with ScriptedWorker(after_go(b"BK" + bytes([signal.SIGABRT]))) as worker:
        process = client.start(env=worker.environment, cwd=tmp_path)
        _, status = os.waitpid(process.pid, 0)

    assert os.WTERMSIG(status) == signal.SIGABRT
    assert not os.WCOREDUMP(status)
    process.returncode = 0
    process.communicate()


def test_a_worker_that_never_answers_is_left_and_hears_the_end(installed: Client) -> None:
    heard = []

    def late(call: Call) -> None:
        """Hold the call until the client has run cold, then take it."""
        assert ended.wait(60)
        with_late_answer = b""
        try:
            call.say(b"W" + bytes(4))
            with_late_answer = call.hear()
        except (BrokenPipeError, ConnectionResetError):
            pass
        heard.append(with_late_answer)

    ended = threading.Event()
    with ScriptedWorker(late) as worker:
        done = installed.run("one", "two", env=worker.environment)
        ended.set()

    assert (done.returncode, done.stdout) == COLD
    assert heard == [b""]  # and not `G`, which would begin a second run


def test_a_worker_that_does_not_read_is_left(installed: Client) -> None:
    """The call is larger than the buffer of a socket, and nobody takes it out."""
    stopped = ScriptedWorker(write, backlog=5)
    stopped._accept = lambda: None  # type: ignore[method-assign]
    with stopped:
        large = {f"LARGE_{number}": "x" * 100_000 for number in range(10)}
        done = installed.run("one", "two", env={**stopped.environment, **large})

    assert (done.returncode, done.stdout) == COLD


def test_a_worker_without_room_is_left_at_once(installed: Client) -> None:
    full = ScriptedWorker(write, backlog=0)
    full._accept = lambda: None  # type: ignore[method-assign]
    with full, ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: installed.run("one", "two", env=full.environment), range(4)))

    assert [(each.returncode, each.stdout) for each in done] == [COLD] * 4


@pytest.mark.parametrize("value", ["off", "0", "no", "false", "OFF", "False"])
def test_what_turns_it_off_has_nothing_sent(client: Client, value: str) -> None:
    with ScriptedWorker(write) as worker:
        done = client.run("one", "two", env={**worker.environment, "AFK_WORKER": value})

    assert (done.returncode, done.stdout) == COLD
    assert worker.calls == []


def test_arguments_of_every_kind_arrive_as_they_are(client: Client) -> None:
    arguments = [b"run", b"", b"-", b"--", b"a b\tc\nd", b"\xff\xfe\x80", "naïve 🙂".encode(), b"=" * 100_000]
    with ScriptedWorker(after_go(b"BX\x00")) as worker:
        done = client.run(*arguments, env=worker.environment)

    assert done.returncode == 0
    assert worker.calls[0].arguments == [os.fsencode(client.program), *arguments]


def test_thousands_of_arguments_and_a_large_environment_arrive(client: Client) -> None:
    arguments = [b"%d" % number for number in range(20_000)]
    large = {f"LARGE_{number}": "v" * 100_000 for number in range(10)}
    with ScriptedWorker(after_go(b"BX\x00")) as worker:
        environment = {**worker.environment, **large}
        done = client.run(*arguments, env=environment)

    assert done.returncode == 0
    assert worker.calls[0].arguments[1:] == arguments
    assert worker.calls[0].environment == [f"{name}={value}".encode() for name, value in environment.items()]


def test_an_environment_that_is_not_text_arrives(client: Client) -> None:
    with ScriptedWorker(after_go(b"BX\x00")) as worker:
        odd = {b"ODD\xff": b"\xfe\x80", b"EMPTY": b"", b"EQUALS": b"a=b=c"}
        client.run(env={**{os.fsencode(k): os.fsencode(v) for k, v in worker.environment.items()}, **odd})

    assert {b"ODD\xff=\xfe\x80", b"EMPTY=", b"EQUALS=a=b=c"} <= set(worker.calls[0].environment)


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_closed_descriptors_stay_closed(client: Client, closed: tuple[int, ...], tmp_path: Path) -> None:
    """Neither the socket nor the folder takes their numbers, warm or cold."""
    seen: dict[str, object] = {}

    def look(call: Call) -> None:
        call.take()
        seen["sent"] = [str(Path(f"/proc/self/fd/{number}").readlink()) for number in call.descriptors]
        seen["client"] = sorted(each.name for each in Path(f"/proc/{call.pid}/fd").iterdir())
        call.say(b"BX\x00")

    redirect = " ".join(f"{number}>&-" for number in closed)
    with ScriptedWorker(look) as worker:
        command = ["sh", "-c", f'exec "$0" {redirect}', client.program]
        process = subprocess.Popen(command, env=worker.environment, cwd=tmp_path, stdin=subprocess.DEVNULL)
        assert process.wait(60) == 0

    [call] = worker.calls
    assert [number for number in range(3) if call.flags & 1 << number] == [n for n in range(3) if n not in closed]
    assert len(call.descriptors) == 4 - len(closed)
    assert seen["sent"][-1] == str(tmp_path)  # type: ignore[index]
    assert not {str(number) for number in closed} & set(seen["client"])  # type: ignore[call-overload]


def test_more_descriptors_of_the_caller_are_reported(client: Client, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, ScriptedWorker(after_go(b"BX\x00")) as worker:
        client.run(env=worker.environment)
        client.run(env=worker.environment, pass_fds=[file.fileno()])

    assert [bool(call.flags & 1 << 5) for call in worker.calls] == [False, True]


def test_a_deleted_working_folder_and_the_umask_are_reported(client: Client, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    with ScriptedWorker(after_go(b"BX\x00")) as worker:
        command = f'umask 0027; rmdir "{gone}"; exec "{client.program}"'
        assert subprocess.run(["sh", "-c", command], env=worker.environment, cwd=gone).returncode == 0

    assert worker.calls[0].umask == 0o027


def test_ignored_and_blocked_signals_are_reported(client: Client) -> None:
    def prepare() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])

    with ScriptedWorker(after_go(b"BX\x00")) as worker:
        client.run(env=worker.environment, preexec_fn=prepare)

    assert worker.calls[0].ignored & 1 << signal.SIGHUP - 1
    assert not worker.calls[0].ignored & 1 << signal.SIGTERM - 1
    assert worker.calls[0].blocked & (1 << 31) - 1 == 1 << signal.SIGUSR2 - 1


def test_many_clients_at_once_each_get_their_own_answer(client: Client) -> None:
    def code(call: Call) -> None:
        call.take()
        call.say(b"B")
        os.write(call.descriptors[1], call.arguments[1])
        call.say(b"X\x00")

    with ScriptedWorker(code, backlog=16) as worker, ThreadPoolExecutor(50) as pool:
        done = list(pool.map(lambda number: client.run(str(number), env=worker.environment), range(200)))

    # A worker whose backlog is full is not waited for.
    answers = {(each.returncode, each.stdout) for each in done}
    assert answers <= {(0, b"%d" % number) for number in range(200)} | {
        (COLD_CODE, b"cold %d" % number) for number in range(200)
    }
    assert len(answers) == 200
