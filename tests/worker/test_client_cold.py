"""The cold way of the compiled client leaves a process as the console script does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.worker.scripted_worker import LIMIT, Call, Client, ScriptedWorker

STATE = """
def main():
    import json, os, signal, sys
    umask = os.umask(0)
    flags = {name: getattr(sys.flags, name) for name in dir(sys.flags) if not name.startswith(("_", "n_"))}
    del flags["count"], flags["index"]
    print(json.dumps({
        "arguments": sys.argv, "path": sys.path, "folder": os.getcwd(), "environment": dict(os.environ),
        "name": sys.modules["__main__"].__name__, "flags": flags, "umask": umask, "pid": os.getpid(),
        "executable": sys.executable, "prefix": sys.prefix, "modules": sorted(set(sys.modules) - {"re._casefix"}),
        "descriptors": [fd for fd in range(256) if os.path.exists(f"/proc/self/fd/{fd}")],
        "signals": {int(number): str(signal.getsignal(number)) for number in signal.valid_signals()},
        "blocked": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        "pth": os.environ.get("READ_BY_A_PTH_FILE"),
    }, default=repr))
    return 4
"""
CONSOLE_SCRIPT = (
    "#!{python}\nimport sys\nfrom afkcli.entry import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, compiled: Path) -> Path:
    """A virtual environment with an `afkcli` that shows its process, the client as `afk`, and a console script."""
    place = tmp_path_factory.mktemp("cold") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True, timeout=LIMIT)
    [packages] = place.glob("lib/python3*/site-packages")
    (packages / "afkcli").mkdir()
    (packages / "afkcli" / "__init__.py").touch()
    (packages / "afkcli" / "entry.py").write_text(STATE)
    (packages / "own.pth").write_text("import os; os.environ['READ_BY_A_PTH_FILE'] = 'yes'\n")
    (place / "scripts").mkdir()
    for folder, program in ((place / "scripts", None), (place / "bin", compiled)):
        script = folder / "afk"
        if program is None:
            script.write_text(CONSOLE_SCRIPT.format(python=place / "bin" / "python"))
        else:
            script.write_bytes(program.read_bytes())
        script.chmod(0o755)
    return place


def state(folder: Path, *arguments: str | bytes, variables: Mapping[str, str], **options: Any) -> dict[str, Any]:
    """Return what a program `afk` in a folder shows of its process, that folder called BIN."""
    given = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "AFK_WORKER": "off", **variables}
    process = subprocess.Popen(
        [folder / "afk", *arguments], env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )
    out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, err) == (4, b"")
    text = out.decode().replace(str(folder), "BIN").replace(os.path.relpath(folder, options.get("cwd", "/")), "BIN")
    shown: dict[str, Any] = json.loads(text)
    assert shown.pop("pid") == process.pid
    return shown


CASES: dict[str, dict[str, str]] = {
    "plain": {},
    "PYTHONPATH": {"PYTHONPATH": "/one:/two"},
    "PYTHONSAFEPATH": {"PYTHONSAFEPATH": "1"},
    "PYTHONUTF8": {"PYTHONUTF8": "1"},
    "PYTHONDONTWRITEBYTECODE": {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1"},
    "PYTHONOPTIMIZE": {"PYTHONOPTIMIZE": "2", "PYTHONUNBUFFERED": "1"},
    "PYTHONDEVMODE": {"PYTHONDEVMODE": "1"},
    "PYTHONHASHSEED": {"PYTHONHASHSEED": "0"},
}


@pytest.mark.parametrize("case", CASES)
def test_a_cold_start_is_that_of_the_console_script(environment: Path, tmp_path: Path, case: str) -> None:
    shown = [
        state(environment / folder, "run", "-c", "--", "", "a b", "-X", variables=CASES[case], cwd=tmp_path)
        for folder in ("bin", "scripts")
    ]
    for each in shown:
        each["executable"] = each["executable"].replace(str(environment / "bin"), "BIN")
        each["path"] = [entry.replace(str(environment / "bin"), "BIN") for entry in each["path"]]

    assert shown[0] == shown[1]
    assert shown[0]["pth"] == "yes"
    assert shown[0]["arguments"] == ["BIN/afk", "run", "-c", "--", "", "a b", "-X"]


def test_arguments_that_are_not_text_are_those_of_the_console_script(environment: Path, tmp_path: Path) -> None:
    odd = [b"\xff\xfe", "naïve 🙂".encode(), b"a\nb"]
    own, script = (state(environment / f, *odd, variables={}, cwd=tmp_path) for f in ("bin", "scripts"))

    assert own["arguments"] == script["arguments"]


def test_the_working_folder_is_not_on_the_path(environment: Path, tmp_path: Path) -> None:
    """Not even while Python starts: a module there has the name of one that is imported first."""
    for name in ("afkcli", "os", "encodings", "site", "json", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a module of the working folder')\n")
    shown = state(environment / "bin", variables={}, cwd=tmp_path)

    assert "" not in shown["path"]
    assert str(tmp_path) not in shown["path"]


def test_signals_descriptors_and_umask_are_those_of_the_caller(environment: Path, tmp_path: Path) -> None:
    """Also after a worker was asked and has refused."""

    def refuse(call: Call) -> None:
        call.take()
        call.say(b"C")

    with (tmp_path / "file").open("w") as file, ScriptedWorker(refuse) as worker:
        options: dict[str, Any] = {"cwd": tmp_path, "umask": 0o027, "pass_fds": [file.fileno()], "stdin": None}
        asked = {**worker.environment, "AFK_WORKER": "on"}
        own, script = (state(environment / f, variables=asked, **options) for f in ("bin", "scripts"))

    assert len(worker.calls) == 1
    for name in ("umask", "descriptors", "signals", "blocked", "environment"):
        assert own[name] == script[name], name
    assert own["umask"] == 0o027


def test_a_missing_interpreter_is_named(client: Client) -> None:
    (client.prefix / "bin" / "python").write_text("#!/nowhere/python\n")
    done = client.run("hi", env={"AFK_WORKER": "off"})

    assert done.returncode == 126
    assert done.stderr.decode() == (
        f"afk: cannot start {client.prefix}/bin/python: No such file or directory; install afk again\n"
    )
