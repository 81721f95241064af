"""What memory of processes is counted, and whose."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.bench import PROGRAMS
from benchmarks.measure import environment, run
from benchmarks.memory import Memory, family, owner
from benchmarks.peers.installing import Installed, native_codex
from benchmarks.server import BenchmarkServer, cpu_seconds

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")

FORK = """
import os, sys
shared = bytearray(b"x" * 40_000_000)
if os.fork() == 0:
    own = bytearray(b"y" * 20_000_000)
print("ready", flush=True)
sys.stdin.read()
"""


def test_private_memory_leaves_out_what_a_fork_shares() -> None:
    with subprocess.Popen([sys.executable, "-c", FORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == [b"ready\n"] * 2
        parent, child = family(process.pid)
        both, one = Memory.of(parent, child), Memory.of(child)
        process.communicate()

    assert 20e6 < one.private < 40e6  # its own, and not the forty
    assert 60e6 < both.share < 100e6  # the forty once
    assert Memory.of(parent, child) == Memory()  # they have ended


def test_the_owner_of_a_connection_is_found() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    code = f"import socket, sys; c = socket.create_connection({listener.getsockname()!r}); sys.stdin.read()"
    with listener, subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        connection, _ = listener.accept()
        with connection:
            found = owner(connection)
        process.communicate()

    assert found == process.pid


def test_what_looks_at_each_request_sees_it_before_it_is_answered(tmp_path: Path) -> None:
    """And the program of the standard library, against which the warm start is compared, makes a turn."""
    seen = []
    with BenchmarkServer() as server:
        server.on_request = lambda connection: seen.append(owner(connection) == server.sender)
        env = environment(
            tmp_path, OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="none", BENCH_MODEL="model", AFK_WORKER="off"
        )
        assert run([sys.executable, PROGRAMS / "stdlib_turn.py"], env, server, cwd=tmp_path).sent > 0

    assert seen == [True]


def test_cpu_time_of_who_works_for_a_program_counts_as_its_own(tmp_path: Path) -> None:
    """But not what it had used before."""
    with BenchmarkServer() as server:
        env = environment(tmp_path, OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="none", BENCH_MODEL="model")
        turn = [sys.executable, PROGRAMS / "stdlib_turn.py"]
        alone = run(turn, env, server, cwd=tmp_path).cpu_to_request
        server.beside = {os.getpid(): cpu_seconds(os.getpid()) - 100}
        helped = run(turn, env, server, cwd=tmp_path).cpu_to_request

    assert alone < 50
    assert helped > 100


def test_the_native_program_of_codex_is_found_beside_its_launcher(tmp_path: Path) -> None:
    launcher = Installed(program=tmp_path / "node_modules" / ".bin" / "codex", version="codex 1")
    assert "has no native program" in str(native_codex(launcher))
    program = tmp_path / "node_modules" / "@openai" / "codex-linux" / "vendor" / "x86_64" / "bin" / "codex"
    program.parent.mkdir(parents=True)
    program.touch()

    assert native_codex(launcher) == Installed(program=program, version="codex 1")
