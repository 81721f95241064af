"""Waiting until no other thread of a process is left."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from afkcli.host.threads import other_threads_end

LONG = 60.0
PROGRAM = """
import sys, threading
from afkcli.host.threads import other_threads_end
ended = threading.Event()
for _ in range(300):
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    assert other_threads_end(60)
    assert threading.active_count() == 1
thread = threading.Thread(target=ended.wait, daemon=True)
thread.start()
assert not other_threads_end(0.05)
ended.set()
assert other_threads_end(60)
"""


def test_it_says_whether_this_thread_is_the_only_one() -> None:
    """In a process of its own: that of the tests has other threads."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_where_the_system_does_not_say_it_python_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def listdir(path: str) -> list[str]:
        raise FileNotFoundError(path)

    monkeypatch.setattr("afkcli.host.threads.os.listdir", listdir)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    assert other_threads_end(LONG)
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    assert not other_threads_end(0.0)
