"""The file of `--record` and `--replay`: where none can be made or read, and what a damaged one says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from afkcli.core.contract.errors import UsageError
from afkcli.host.secrets import Secrets
from afkcli.testing.model_server import ModelServer
from afkcli.wiring import recording
from afkcli.wiring.recording import Recording
from tests.e2e.shell import AFK, LIMIT, Shell

FULL = Path("/dev/full")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


@pytest.mark.parametrize("option", ["--record", "--replay"])
@pytest.mark.parametrize("name", ["", "-"])
def test_a_recording_needs_the_name_of_a_file(keyed: Shell, server: ModelServer, option: str, name: str) -> None:
    done = keyed.in_process("run", "-n", option, name, "hi")

    assert (done.code, done.out) == (2, "")
    assert done.err == "afk: a recording needs the name of a file; it can be neither stdin nor stdout\n"
    assert server.requests == []
    assert list(keyed.folder.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["x" * 300, pytest.param("/proc/afk.jsonl", marks=pytest.mark.skipif(sys.platform != "linux", reason="/proc"))],
    ids=["long name", "no place for files"],
)
def test_where_no_file_can_be_made_no_model_is_asked(keyed: Shell, server: ModelServer, name: str) -> None:
    done = keyed.afk("run", "-n", "--record", name, "hi")

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"afk: the recording {name} cannot be written: ")
    assert server.requests == []
    assert keyed.afk("threads", "--json").out == ""


def test_of_two_runs_that_make_one_recording_at_once_the_second_is_refused(file: Path) -> None:
    first, second = (Recording(file, Secrets()) for _ in range(2))  # neither has made it yet
    first.tape()
    with pytest.raises(UsageError, match="exists already"):
        second.tape()
    second.close()
    assert file.exists()
    first.close()
    assert not file.exists()  # no run began


def test_no_line_follows_one_that_a_full_disk_has_cut(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Recording(file, Secrets())
    made.tape()
    made.begin_run()
    real = recording.os.write
    answers: list[Callable[[int, memoryview], int]] = [lambda descriptor, data: real(descriptor, data[:9])]

    def write(descriptor: int, data: memoryview) -> int:
        if answers:
            return answers.pop()(descriptor, data)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recording.os, "write", write)
    with pytest.raises(OSError, match="No space"):
        made.write({"type": "question", "text": "first"})
    monkeypatch.setattr(recording.os, "write", real)  # there is space again
    with pytest.raises(OSError, match="No space"):
        made.write({"type": "question", "text": "second"})
    made.close()
    assert file.read_bytes().splitlines(keepends=True)[1:] == [b'{"type":"']


def test_lines_of_a_later_afk_are_left_out(keyed: Shell, file: Path) -> None:
    recorded = keyed.afk("run", "-n", "--record", str(file), "hi")
    line = json.dumps({"type": "weather", "run": 1, "text": "rain"}) + "\n"
    head, run, *rows = file.read_text().splitlines(keepends=True)
    file.write_text("".join([head, run, *(f"{row}{line}" for row in rows)]))
    done = keyed.afk("run", "-n", "--replay", str(file), "hi")

    assert (done.code, done.out) == (0, recorded.out)


@pytest.mark.parametrize("changed", [b"%s\n", b"%s \r\n\r\n"], ids=["blank line", "blank lines and CRLF"])
def test_a_recording_that_an_editor_saved_is_replayed(keyed: Shell, file: Path, changed: bytes) -> None:
    recorded = keyed.afk("run", "-n", "--record", str(file), "hi")
    file.write_bytes(changed.replace(b"%s", file.read_bytes()))
    done = keyed.afk("run", "-n", "--replay", str(file), "hi")

    assert (done.code, done.out) == (0, recorded.out)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"nonsense", "is damaged in line 2: it is not a JSON object"),
        (b"[1]", "is damaged in line 2: it is not a JSON object"),
        (b'{"type":"run","run":1}', "is damaged in line 2: the field 'run_id' is missing, or has a wrong type"),
        (b'{"type":"recording","v":1}', "is damaged in line 2: the field 'run' is missing, or has a wrong type"),
    ],
)
def test_a_damaged_line_says_what_is_wrong_with_it(shell: Shell, file: Path, line: bytes, said: str) -> None:
    file.write_bytes(b'{"type":"recording","v":1}\n' + line + b"\n")
    done = shell.in_process("run", "-n", "--replay", str(file), "hi")

    assert (done.code, done.err) == (2, f"afk: {file} {said}; record it again\n")


def test_the_command_for_event_logs_names_the_one_for_recordings(keyed: Shell, file: Path) -> None:
    keyed.afk("run", "-n", "--record", str(file), "hi")
    done = keyed.in_process("replay", str(file))

    assert (done.code, done.out) == (2, "")
    assert done.err == f"afk: {file} is a recording, not an event log; `afk run --replay FILE` answers from it\n"


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (("--dry-run",), ""),
        (("--replay", "FILE"), ""),
        (("--no-memory",), ""),
        (("-t", "a"), "; the answer is kept in the thread"),
    ],
    ids=["dry run", "replay", "no memory", "thread"],
)
def test_a_full_disk_behind_stdout_is_said_with_where_the_answer_is(
    keyed: Shell, file: Path, options: tuple[str, ...], kept: str
) -> None:
    keyed.afk("run", "-n", "--record", str(file), "hi")
    given = [str(file) if option == "FILE" else option for option in options]
    with FULL.open("wb") as full:
        done = subprocess.run(
            [AFK, "run", "-n", *given, "hi"],
            cwd=keyed.folder,
            env=keyed.environment(),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LIMIT,
        )

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"afk: stdout cannot be written: No space left on device{kept}"
