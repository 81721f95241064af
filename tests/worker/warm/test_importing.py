"""A worker keeps no module that would be another one, or do something else, if the next command imported it itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from afkcli.testing.model_server import ModelServer
from afkcli.worker.failures import read_failure
from afkcli.worker.starting import spawn
from tests.worker.warm.conftest import AFK, WarmShell, until, warm_shell

OBSERVE = """
import importlib, json, sys
from afkcli.worker.importing import observed
sys.path.insert(0, sys.argv[1])
with observed({"noted"}) as seen:
    importlib.import_module("noted")
print(json.dumps(seen.doubt), json.dumps(sorted(path for path in seen.paths if path.startswith(f"{sys.argv[1]}/data"))))
"""


def observe(folder: Path, text: str) -> tuple[str, str]:
    """Return why a module must not be kept, and what it has read beside it."""
    (folder / "noted.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", OBSERVE, folder], cwd=folder, capture_output=True, text=True, check=True
    )
    doubt, _, paths = done.stdout.splitlines()[-1].partition('" ')
    return doubt.removeprefix('"'), paths


@pytest.mark.parametrize(
    ("text", "does"),
    [
        ("print('loaded')", "writes to a standard stream"),
        ("import warnings; warnings.warn('careful')", "writes to a standard stream"),
        ("import logging; logging.warning('careful')", "writes to a standard stream"),
        ("import sys; IS_TERMINAL = sys.stdout.isatty()", "asks for a terminal"),
        ("import os; FOLDER = os.getcwd()", "asks for the working folder"),
        ("from pathlib import Path; FOLDER = Path.cwd()", "asks for the working folder"),
        ("KEY = open('/home/u/key').read()", "reads /home/u/key"),
        ("from pathlib import Path; KEY = Path('key').read_text()", "reads key in the working folder"),
        ("import os; NAMES = os.listdir('/home')", "reads /home"),
        ("open('/var/tmp/noted', 'a').close()", "writes /var/tmp/noted"),
        ("import subprocess; subprocess.run(['true'])", "starts a process"),
        ("import os; os.system('true')", "starts a process"),
        ("import socket; socket.getaddrinfo('127.0.0.1', 80)", "asks the network"),
        ("import sqlite3; sqlite3.connect(':memory:')", "opens a database"),
        ("class A:\n    def __init__(self): print('loaded')\n\nA()", "writes to a standard stream"),
    ],
)
def test_what_depends_on_the_moment_is_seen(tmp_path: Path, text: str, does: str) -> None:
    assert observe(tmp_path, f"try:\n    {text}\nexcept OSError: pass" if "\n" not in text else text) == (
        f"noted {does} while it is imported",
        "[]",
    )


def test_a_file_beside_a_module_counts_as_the_module_does(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text("{}")
    text = "import pathlib; DATA = (pathlib.Path(__file__).parent / 'data.json').read_text()"

    assert observe(tmp_path, text) == ("", f'["{tmp_path}/data.json"]')


def test_what_is_done_later_does_not_count(tmp_path: Path) -> None:
    assert observe(tmp_path, "def later():\n    print(open('/home/u/key').read())") == ("", "[]")


def test_a_library_may_ask_for_the_folder_and_the_terminal_and_a_plugin_for_that_of_temporary_files(
    tmp_path: Path,
) -> None:
    (tmp_path / "library.py").write_text("import os, sys; FOUND = os.getcwd(), sys.stderr.isatty()")

    assert observe(tmp_path, "import library, tempfile; FOLDER = tempfile.gettempdir()") == ("", "[]")


@pytest.fixture
def own(tmp_path: Path, server: ModelServer) -> Iterator[WarmShell]:
    yield from warm_shell(tmp_path, server)


def start_with(shell: WarmShell, text: str) -> None:
    """Start a worker that is to keep a module."""
    packages = shell.home / "packages"
    packages.mkdir()
    (packages / "noted.py").write_text(text)
    (packages / "data").write_text("old")
    order = {
        "socket": shell.address,
        "program_folder": str(AFK.resolve().parent),
        "path": [*sys.path[1:], str(packages)],
        "files": [],
        "modules": ["noted"],
    }
    (shell.runtime / "afk").mkdir(mode=0o700)
    assert spawn(order, shell.environment()) is not None


def test_no_worker_keeps_what_must_not_be_kept_and_says_why(own: WarmShell) -> None:
    start_with(own, "print('loaded')")

    until(lambda: (failure := read_failure(own.address)) is not None and "noted" in failure.reason, "the failure")
    until(lambda: own.worker is None, "the end of the worker")


def test_after_an_upgrade_of_a_library_that_a_module_has_loaded_a_command_runs_cold(own: WarmShell) -> None:
    """As of those of the system, in which gaps are closed: a cold run has the new one."""
    library = own.home / "library.so"
    shutil.copy(msgspec._core.__file__, library)
    start_with(own, f"import ctypes; LIBRARY = ctypes.CDLL({str(library)!r})")
    until(lambda: own.worker is not None and Path(own.address).is_socket(), "the worker")
    own.warm(lambda: own.afk("threads"))

    shutil.copy(library, own.home / "new.so")
    (own.home / "new.so").replace(library)
    assert own.afk("threads").code == 0

    until(lambda: own.worker is None, "the end of the worker")


def test_after_a_change_of_what_a_module_has_read_a_command_runs_cold(own: WarmShell) -> None:
    start_with(own, "import pathlib; DATA = pathlib.Path(__file__).with_name('data').read_text()")
    until(lambda: own.worker is not None and Path(own.address).is_socket(), "the worker")
    own.warm(lambda: own.afk("threads"))

    (own.home / "packages" / "data").write_text("new")
    assert own.afk("threads").code == 0

    until(lambda: own.worker is None, "the end of the worker")
