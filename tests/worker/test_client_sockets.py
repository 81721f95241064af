"""Where the compiled client looks for the socket of a worker, and what it takes for none: then it runs cold."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.worker.scripted_worker import (
    COLD_CODE,
    Call,
    Client,
    ScriptedWorker,
    make_client,
    safe_folder,
    socket_name,
)

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="files of another user need root")


def end(call: Call) -> None:
    call.take()
    call.say(b"BX\x00")


@pytest.fixture
def folder() -> Iterator[Path]:
    with safe_folder() as made:
        yield made


@pytest.fixture
def mended() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def env(folder: Path, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "AFK_WORKER_SOCKET": str(folder / "w.sock"), **more}


def bound(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    return listener


def other_socket(path: Path, stack: ExitStack) -> None:
    stack.enter_context(ScriptedWorker(end, path=path.with_name("other.sock")))
    path.symlink_to("other.sock")


def datagrams(path: Path, stack: ExitStack) -> None:
    stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)).bind(str(path))


KINDS: dict[str, Callable[[Path, ExitStack], object]] = {
    "nothing": lambda path, stack: None,
    "a file": lambda path, stack: path.write_text("x"),
    "a folder": lambda path, stack: path.mkdir(),
    "a pipe": lambda path, stack: os.mkfifo(path),
    "a link to nowhere": lambda path, stack: path.symlink_to("nowhere"),
    "a link to a socket": other_socket,
    "a link to itself": lambda path, stack: path.symlink_to(path),
    "a socket without a listener": lambda path, stack: bound(path).close(),
    "a bound socket that does not listen": lambda path, stack: stack.enter_context(bound(path)),
    "a datagram socket": datagrams,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_socket_of_a_worker_runs_cold(client: Client, folder: Path, mended: ExitStack, kind: str) -> None:
    KINDS[kind](folder / "w.sock", mended)
    done = client.run("hi", env=env(folder))

    assert (done.returncode, done.stdout, done.stderr) == (COLD_CODE, b"cold hi", b"")


@pytest.mark.parametrize("rights", [0o777, 0o701, 0o710, 0o750, 0o1700, 0o770, 0o704])
def test_a_folder_with_rights_for_others_runs_cold(client: Client, folder: Path, rights: int) -> None:
    with ScriptedWorker(end, path=folder / "w.sock"):
        folder.chmod(rights)
        done = client.run(env=env(folder))

    assert done.returncode == COLD_CODE


def test_a_link_to_a_safe_folder_runs_cold(client: Client, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    with ScriptedWorker(end, path=folder / "w.sock"):
        done = client.run(env=env(tmp_path / "link"))

    assert done.returncode == COLD_CODE


@pytest.mark.parametrize("path", ["w.sock", "./w.sock", "", "/", "/w.sock", "/nowhere/w.sock", "/" + "x" * 300])
def test_a_path_that_is_not_absolute_or_not_there_runs_cold(client: Client, folder: Path, path: str) -> None:
    with ScriptedWorker(end, path=folder / "w.sock"):
        variables = {"PATH": os.environ["PATH"], "HOME": str(folder), "AFK_WORKER_SOCKET": path}
        done = client.run(env=variables, cwd=folder)

    assert done.returncode == COLD_CODE


@needs_root
def test_a_folder_of_another_user_runs_cold(client: Client, folder: Path) -> None:
    with ScriptedWorker(end, path=folder / "w.sock"):
        os.chown(folder, NOBODY, NOBODY)
        done = client.run(env=env(folder))

    assert done.returncode == COLD_CODE


@needs_root
def test_a_worker_of_another_user_runs_cold(client: Client, folder: Path) -> None:
    """It listens in a folder of this user, as one could that got a descriptor of it."""
    script = (
        "import os, socket, sys; listener = socket.socket(socket.AF_UNIX); listener.bind(sys.argv[1]); "
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); listener.listen(); print(flush=True); "
        "connection, _ = listener.accept(); print(len(connection.recv(100)))"
    )
    command = [sys.executable, "-c", script, folder / "w.sock"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
        done = client.run("hi", env=env(folder))
        received = process.stdout.readline()

    assert (done.returncode, done.stdout) == (COLD_CODE, b"cold hi")
    assert received == "0\n"  # neither arguments nor environment were sent


@needs_root
def test_another_users_call_runs_cold(compiled: Path, folder: Path, mended: ExitStack) -> None:
    with safe_folder() as place:
        client = make_client(place / "env", compiled)
        place.chmod(0o755)
        with ScriptedWorker(end, path=folder / "w.sock") as worker:
            done = client.run("hi", env=env(folder), user=NOBODY, group=NOBODY, extra_groups=[], cwd="/")

    assert (done.returncode, done.stdout) == (COLD_CODE, b"cold hi")
    assert worker.calls == []


HOMES: dict[str, dict[str, str]] = {
    "home": {"HOME": "/home/someone"},
    "no home": {},
    "home and AFK_HOME": {"HOME": "/home/someone", "AFK_HOME": "/elsewhere/afk"},
    "an empty AFK_HOME": {"HOME": "/home/someone", "AFK_HOME": ""},
}


@pytest.mark.parametrize("home", HOMES)
def test_the_socket_is_named_by_environment_and_home(client: Client, folder: Path, home: str) -> None:
    (folder / "afk").mkdir(0o700)
    given = {**HOMES[home], "XDG_RUNTIME_DIR": str(folder), "PATH": os.environ["PATH"]}
    with ScriptedWorker(end, path=folder / "afk" / socket_name(client.prefix, given)):
        own = client.run(env=given)
        other = client.run(env={**given, "AFK_HOME": "/another"})

    assert (own.returncode, other.returncode) == (0, COLD_CODE)


@pytest.mark.parametrize("runtime", ["", "relative", "/nowhere", "for all"])
def test_without_a_safe_runtime_folder_the_socket_is_in_tmp(
    client: Client, folder: Path, runtime: str, tmp_path: Path
) -> None:
    own = Path(f"/tmp/afk-{os.getuid()}")
    given = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": runtime}
    if runtime == "for all":
        folder.chmod(0o755)
        given["XDG_RUNTIME_DIR"] = str(folder)
    own.mkdir(0o700, exist_ok=True)
    with ScriptedWorker(end, path=own / socket_name(client.prefix, given)):
        done = client.run(env=given, cwd=tmp_path)

    assert done.returncode == 0


Calling = Callable[[Client, Path], tuple[list[str], dict[str, object], str]]


def by_path(client: Client, place: Path) -> tuple[list[str], dict[str, object], str]:
    return [str(client.program)], {}, str(client.program)


def by_relative_path(client: Client, place: Path) -> tuple[list[str], dict[str, object], str]:
    return ["./afk"], {"cwd": client.program.parent}, "./afk"


def by_link_of_a_tool(client: Client, place: Path) -> tuple[list[str], dict[str, object], str]:
    """As `uv tool` and pipx link a program."""
    (place / "afk").symlink_to(client.program)
    return [str(place / "afk")], {}, str(place / "afk")


def by_relative_links(client: Client, place: Path) -> tuple[list[str], dict[str, object], str]:
    (place / "one").symlink_to(os.path.relpath(client.program, place))
    (place / "two").mkdir()
    (place / "two" / "afk").symlink_to("../one")
    return ["two/afk"], {"cwd": place}, "two/afk"


def by_a_linked_environment(client: Client, place: Path) -> tuple[list[str], dict[str, object], str]:
    (place / "linked").symlink_to(client.prefix)
    return [str(place / "linked" / "bin" / "afk")], {}, str(place / "linked" / "bin" / "afk")


def from_a_cache(client: Client, place: Path) -> tuple[list[str], dict[str, object], str]:
    """As uv installs with --link-mode=symlink: the program itself is a link out of the environment."""
    client.program.rename(place / "cached")
    client.program.symlink_to(place / "cached")
    return [str(client.program)], {}, str(client.program)


def under_another_name(client: Client, place: Path) -> tuple[list[str], dict[str, object], str]:
    (place / "agent").symlink_to(client.program)
    return [str(place / "agent")], {}, str(place / "agent")


@pytest.mark.parametrize(
    "calling",
    [
        by_path,
        by_relative_path,
        by_link_of_a_tool,
        by_relative_links,
        by_a_linked_environment,
        from_a_cache,
        under_another_name,
    ],
    ids=lambda it: it.__name__,
)
def test_the_environment_is_found_however_it_is_called(
    client: Client, folder: Path, tmp_path: Path, calling: Calling
) -> None:
    (folder / "afk").mkdir(0o700)
    place = tmp_path / "place"
    place.mkdir()
    command, options, called = calling(client, place)
    given = {"PATH": os.environ["PATH"], "HOME": "/h", "XDG_RUNTIME_DIR": str(folder)}
    with ScriptedWorker(end, path=folder / "afk" / socket_name(client.prefix, given)) as worker:
        warm = subprocess.run([*command, "hi"], env=given, timeout=60, **options)  # type: ignore[call-overload]
    cold = subprocess.run([*command, "hi"], env=given, timeout=60, capture_output=True, **options)  # type: ignore[call-overload]

    assert (warm.returncode, cold.returncode, cold.stdout) == (0, COLD_CODE, b"cold hi")
    assert worker.calls[0].arguments == [called.encode(), b"hi"]


def test_without_an_interpreter_beside_it_nothing_is_asked(compiled: Path, folder: Path, tmp_path: Path) -> None:
    """As `pip install --user` installs: then one of the version that has the packages is taken from the PATH."""
    programs, packages = tmp_path / "own" / "bin", tmp_path / "own" / "lib" / "python3.99" / "site-packages" / "afkcli"
    programs.mkdir(parents=True)
    packages.mkdir(parents=True)
    (packages / "entry.py").touch()
    (programs / "afk").write_bytes(compiled.read_bytes())
    (programs / "afk").chmod(0o755)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    python = elsewhere / "python3.99"
    python.write_text('#!/bin/sh\necho "$3" "$4" "$5"\n')
    python.chmod(0o755)
    variables = env(folder, PATH=f"/nowhere::{elsewhere}:/usr/bin:/bin")
    with ScriptedWorker(end, path=folder / "w.sock") as worker:
        done = subprocess.run([programs / "afk", "hi"], env=variables, capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stdout) == (0, f"{programs} {programs}/afk hi\n")
    assert worker.calls == []


def test_without_any_python_it_says_what_to_use(compiled: Path, tmp_path: Path) -> None:
    done = subprocess.run([compiled], env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60)

    if done.returncode != 126:  # a system may have one in /usr/bin, which does not have afk
        assert "afkcli" in done.stderr
    else:
        assert done.stderr == f"afk: no Python found for {compiled}; use: python3 -m afkcli\n"
