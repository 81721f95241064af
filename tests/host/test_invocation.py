"""What a process was started with: read from Python in one module, and handed down from there."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import afkcli
from afkcli.host.invocation import Invocation, Stream
from tests.interrupts import allow_interrupts

PACKAGE = Path(afkcli.__file__).parent
READS_THE_PROCESS = {
    Path("host/invocation.py"),
    Path("host/search_path.py"),  # before anything else is imported
    Path("entry.py"),  # starts a warm worker when the invocation has ended
    Path("batch/worker_processes.py"),  # a forked process writes what Python has buffered before its end
    Path("providers/certificates.py"),  # as the SDKs do: providers read the environment of the process
    Path("providers/proxies.py"),
    Path("processes/supervisor.py"),  # a program of its own
    Path("processes/descendants.py"),  # a part of it: the environment of ps
    Path("processes/confine.py"),  # runs in the process that becomes a command
}
OTHERS = ("testing", "worker")
"""`afkcli.testing` runs in the process of a test, or as a program of its own, and knows no invocation. `afkcli.worker`
makes a process what that of its client is, before an invocation is made of it."""
READS = {
    "os": {"environ", "environb", "getenv", "getcwd", "getcwdb", "umask"},
    "sys": {"argv", "stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__"},
    "Path": {"cwd"},
    "afkcli.host.secrets": {"SECRETS"},
    "shutil": {"get_terminal_size"},
}


def reads(source: str) -> Iterator[str]:
    """Yield what a module reads from Python of how its process was started, as `line: name`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in READS.get(node.value.id, ()):
                yield f"{node.lineno}: {node.value.id}.{node.attr}"
        elif isinstance(node, ast.ImportFrom):
            for name in node.names:
                if name.name in READS.get(node.module or "", ()):
                    yield f"{node.lineno}: {node.module}.{name.name}"


def modules() -> list[Path]:
    found = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")]
    return sorted(path for path in found if path.parts[0] not in OTHERS and path not in READS_THE_PROCESS)


@pytest.mark.parametrize("module", modules(), ids=str)
def test_only_the_invocation_reads_the_process(module: Path) -> None:
    assert list(reads((PACKAGE / module).read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source", ["import os\nos.environ['A']", "import sys\nsys.stdin.read()", "Path.cwd()", "from os import getenv"]
)
def test_a_read_of_the_process_is_found(source: str) -> None:
    assert list(reads(source))


def test_it_is_what_the_process_was_started_with(tmp_path: Path) -> None:
    script = (
        "from afkcli.host.invocation import Invocation; it = Invocation.of_process()\n"
        "print(it.arguments, it.environment['WORD'], it.folder, oct(it.umask), it.stdin.is_open, it.stdout.is_terminal,"
        " [int(number) for number in it.stop_signals], it.columns())"
    )
    shell = ["bash", "-c", f'umask 027; trap "" TERM; exec {sys.executable} -c "$0" one two <&-', script]
    environment = {**os.environ, "WORD": "said", "COLUMNS": "33"}
    done = subprocess.run(
        shell, cwd=tmp_path, env=environment, capture_output=True, text=True, preexec_fn=allow_interrupts
    )
    assert done.stdout == f"('one', 'two') said {tmp_path} 0o27 False False [2, 1] 33\n"


def test_a_deleted_working_directory_gives_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert Invocation.of_process().folder is None


@pytest.mark.parametrize(("given", "columns"), [("120", 120), ("0", 80), ("wide", 80), ("", 80), ("-5", 80)])
def test_without_a_terminal_the_width_is_that_of_the_variable_or_80(tmp_path: Path, given: str, columns: int) -> None:
    with (tmp_path / "out").open("w") as out:
        stream = Stream(out.fileno(), out)
        made = Invocation(environment={"COLUMNS": given}, folder=None, stdin=stream, stdout=stream, stderr=stream)
        assert made.columns() == columns


@pytest.mark.parametrize(("given", "lines"), [("50", 50), ("0", 24), ("tall", 24), ("", 24), ("-5", 24)])
def test_without_a_terminal_the_height_is_that_of_the_variable_or_24(tmp_path: Path, given: str, lines: int) -> None:
    with (tmp_path / "out").open("w") as out:
        stream = Stream(out.fileno(), out)
        made = Invocation(environment={"LINES": given}, folder=None, stdin=stream, stdout=stream, stderr=stream)
        assert made.lines() == lines


def test_the_umask_is_left_as_it_was() -> None:
    before = os.umask(0o022)
    try:
        assert Invocation.of_process().umask == 0o022
        assert os.umask(before) == 0o022
    finally:
        os.umask(before)


def test_a_stream_that_was_closed_since_is_not_a_terminal(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        stream = Stream(out.fileno(), out)
    assert not stream.is_terminal
