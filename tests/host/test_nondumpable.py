"""Another process of the same user cannot read the keys of one that has hidden its memory; real process trees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has non-dumpable processes")

KEY = "sk-canary-0123456789"
NOBODY = 65534

# As root nothing is hidden, so a tree that root starts becomes nobody's. The kernel hides a process that changes its
# user: it is made dumpable again, as it would be if nobody had started it.
BEGIN = f"""
import ctypes, json, os, subprocess, sys
from afkcli.host import owner
from afkcli.host.nondumpable import hide_memory
if os.geteuid() == 0:
    os.chdir("/")
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
me = os.getpid()
def child(*argv):
    done = subprocess.run(argv, env={{"PATH": "/usr/bin:/bin"}}, capture_output=True)
    return {{"code": done.returncode, "out": done.stdout.decode(errors="replace"), "err": done.stderr.decode()}}
key = os.environ["THE_KEY"]
"""


def said_by(code: str) -> Any:
    """Run `code` in a process that has the key in its environment; return the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + textwrap.dedent(code)],
        cwd=Path(__file__).parents[2],
        env={"PATH": os.environ["PATH"], "THE_KEY": KEY},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


READ = 'print(json.dumps(child("cat", f"/proc/{me}/environ")))'


def test_without_it_a_child_reads_the_key_of_its_parent() -> None:
    read = said_by(READ)

    assert read["code"] == 0
    assert KEY in read["out"]


def test_with_it_a_child_reads_nothing() -> None:
    read = said_by(f"assert hide_memory()\n{READ}")

    assert read["code"] != 0
    assert read["out"] == ""
    assert "Permission denied" in read["err"]


MEMORY = """
    where = ctypes.create_string_buffer(key.encode())
    code = f"dd if=/proc/{me}/mem bs=1 skip={ctypes.addressof(where)} count={len(key)} iflag=skip_bytes 2>&1"
    print(json.dumps(child("sh", "-c", code)))
"""


def test_the_memory_cannot_be_read_either() -> None:
    yama = Path("/proc/sys/kernel/yama/ptrace_scope")  # where this is on, no child reads its parent's memory anyway
    if not yama.exists() or yama.read_text().strip() == "0":
        assert KEY in said_by(MEMORY)["out"]

    hidden = said_by(f"assert hide_memory()\n{textwrap.dedent(MEMORY)}")

    assert KEY not in hidden["out"]
    assert "Permission denied" in hidden["out"]


def test_it_holds_for_every_thread_and_in_a_fork_until_it_runs_another_program() -> None:
    seen = said_by("""
        import threading
        told = []
        thread = threading.Thread(target=lambda: told.append(hide_memory()))
        thread.start()
        thread.join()
        dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
        fork = os.fork()
        if fork == 0:
            os._exit(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
        print(json.dumps([told, dumpable, os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])]))
    """)

    assert seen == [[True], 0, 0]


def test_afk_still_proves_who_lives_and_who_is_dead() -> None:
    """The owner of a lease is a hidden process, seen by another process of the same user; and it sees itself."""
    seen = said_by("""
        from afkcli.core.contract.jsonform import dumps
        before = owner.current_owner("r")
        assert hide_memory()
        owner._this_process.cache_clear()
        assert owner.current_owner("r") == before, (owner.current_owner("r"), before)
        fork = os.fork()
        if fork == 0:
            os._exit(int(owner.proven_dead(before)) + 2 * int(owner._stat(me)[owner._START_TIME] != before.start_time))
        told = os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])
        print(dumps([told, before]))
    """)

    assert seen[0] == 0
    assert seen[1]["start_time"].isdigit()
    assert seen[1]["pid_namespace"].startswith("pid:")


def test_it_says_so_where_it_cannot_be_done() -> None:
    """Without ctypes nothing can be asked of the kernel."""
    said = said_by("""
        sys.modules["ctypes"] = None
        print(json.dumps(hide_memory()))
    """)

    assert said is False
