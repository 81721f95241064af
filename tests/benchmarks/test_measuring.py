"""How programs are run and installed, and what they are given."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

from benchmarks import isolation
from benchmarks.cases.log import write_log
from benchmarks.isolation import NoNamespaceError, leave_network
from benchmarks.measure import ProgramFailedError, environment, run, run_on_terminal
from benchmarks.peers import installing
from benchmarks.peers.installing import Installed, NotInstalledError, Peer, install
from benchmarks.programs import many_plugins
from benchmarks.server import BenchmarkServer

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def env(tmp_path: Path) -> Mapping[str, str]:
    return environment(tmp_path)


def python(code: str) -> list[str | Path]:
    return [sys.executable, "-c", code]


def test_program_that_writes_much_to_stderr_is_run_to_its_end(tmp_path: Path, env: Mapping[str, str]) -> None:
    code = "import sys; sys.stderr.write('x' * (1 << 20)); sys.stderr.flush(); print('done')"
    assert run(python(code), env, cwd=tmp_path).wall > 0


def test_program_that_fails_is_named_with_what_it_says(tmp_path: Path, env: Mapping[str, str]) -> None:
    with pytest.raises(ProgramFailedError, match="exit code 3: it is broken"):
        run(python("import sys; sys.stderr.write('it is broken'); sys.exit(3)"), env, cwd=tmp_path)


def test_program_that_hangs_is_killed_with_what_it_started(tmp_path: Path, env: Mapping[str, str]) -> None:
    code = "import subprocess, time; subprocess.Popen(['sleep', '1000']); time.sleep(1000)"
    with pytest.raises(ProgramFailedError, match="it was killed after 1 s"):
        run(python(code), env, cwd=tmp_path, seconds=1)


def test_program_on_a_terminal_sees_its_size(tmp_path: Path, env: Mapping[str, str]) -> None:
    code = "import os, sys; sys.exit(os.get_terminal_size() != (100, 50) or not sys.stdin.isatty())"
    assert run_on_terminal(python(code), env, lines=50, cwd=tmp_path).wall > 0
    with pytest.raises(ProgramFailedError, match="exit code 1"):
        run_on_terminal(python(code), env, lines=40, cwd=tmp_path)


def test_programs_have_the_loopback_and_no_network() -> None:
    code = """
import socket, subprocess, sys
from benchmarks.isolation import leave_network

network, variables = leave_network()
listener = socket.create_server(("127.0.0.1", 0))
show = "import socket; print([name for _, name in socket.if_nameindex()])"
reach = f"import socket; socket.create_connection({listener.getsockname()!r})"
subprocess.run([sys.executable, "-c", reach], check=True)
print(bool(variables), subprocess.run([sys.executable, "-c", show], capture_output=True, text=True).stdout.strip())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    behind_proxy, interfaces = done.stdout.strip().split(" ", 1)
    assert behind_proxy == "True" or interfaces == "['lo']"


def test_without_a_namespace_programs_reach_the_loopback_and_a_proxy_that_does_not_exist(
    tmp_path: Path, env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise NoNamespaceError("Operation not permitted")

    monkeypatch.setattr(isolation, "_try_in_child", refuse)
    network, variables = leave_network()
    assert "Operation not permitted" in network
    code = "import sys, urllib.request as u; u.urlopen(u.Request(sys.argv[1], data=b'{}'))"
    with BenchmarkServer() as server:
        reach = [*python(code), f"{server.base_url}/chat/completions"]
        assert run(reach, {**env, **variables}, server, cwd=tmp_path).to_request > 0
        with pytest.raises(ProgramFailedError, match="refused"):
            run([*python(code), "http://example.invalid/"], {**env, **variables}, cwd=tmp_path)


def test_installed_peer_is_used_again_and_a_failed_one_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def script(peer: Peer, folder: Path) -> None:
        made.append(peer.package)
        (folder / "it").write_text("#!/bin/sh\necho it 1.2\necho more\n")
        (folder / "it").chmod(0o755)

    def refuse(peer: Peer, folder: Path) -> None:
        raise NotInstalledError("the registry cannot be reached")

    monkeypatch.setitem(installing.PEERS, "llm", Peer(package="it", install=script, program="it"))
    monkeypatch.setitem(installing.PEERS, "codex", Peer(package="that", install=refuse, program="that"))
    monkeypatch.setitem(installing.PEERS, "litellm", Peer(package="ours", install=script, program="it", kept=False))
    for _ in range(2):
        peers = install(["llm", "codex", "litellm"], tmp_path, lambda line: None)
        assert peers["llm"] == Installed(program=tmp_path / "llm" / "it", version="it 1.2")
        assert peers["litellm"] == Installed(program=tmp_path / "litellm" / "it", version="it 1.2")
        assert peers["codex"] == "that could not be installed: the registry cannot be reached"
    assert made == ["it", "ours", "ours"]


def test_peer_that_does_not_start_counts_as_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer(package="it", install=lambda peer, folder: None, program="it")
    monkeypatch.setitem(installing.PEERS, "llm", peer)
    assert "it could not be installed" in str(install(["llm"], tmp_path, lambda line: None)["llm"])


def test_afk_finds_each_of_the_many_plugins(tmp_path: Path, env: Mapping[str, str]) -> None:
    site = tmp_path / "site"
    site.mkdir()
    ids = many_plugins.make(site, slow_seconds=0)
    found = {_id(each) for each in distributions(path=[str(site)])}
    assert found == set(ids)
    assert len(found) == many_plugins.PLUGINS
    afk = Path(sys.executable).with_name("afk")
    shown = subprocess.run(
        [afk, "plugins", "--json"], env={**env, "PYTHONPATH": str(site)}, capture_output=True, text=True
    )
    assert all(f'"{id_}"' in shown.stdout for id_ in ids), shown.stderr


def _id(distribution: Distribution) -> str:
    [entry_point] = [each for each in distribution.entry_points if each.group == "afk"]
    return entry_point.name


def test_log_is_repeated_in_files_up_to_the_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "2026-01-31.jsonl").write_bytes(b'{"type":"started"}\n' * 3)
    monkeypatch.setattr("benchmarks.cases.log.FILE_BYTES", 2_000_000)
    write_log(tmp_path, 5_000_000)
    files = sorted(tmp_path.glob("*-?.jsonl"))
    assert len(files) == 3
    assert 5_000_000 <= sum(file.stat().st_size for file in files) <= 5_000_000 + 3 * (1 << 16)
    assert all(file.read_bytes().endswith(b"}\n") for file in files)
