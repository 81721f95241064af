"""`afk worker status` and `stop`, and what ends a worker."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from afkcli.worker import place
from afkcli.worker.caller import stat_of
from afkcli.worker.state import read_state
from tests.docs.pages import REPOSITORY, blocks
from tests.e2e.shell import AFK, LIMIT
from tests.worker.warm.conftest import WarmShell, standing_by, until
from tests.worker.warm.processes import has_ended, processes_of

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="making a namespace of processes needs root")


def test_status_shows_the_worker_and_stop_ends_it(fresh: WarmShell) -> None:
    state = fresh.warm_up()

    shown = fresh.afk("worker", "status")
    told = json.loads(fresh.afk("worker", "status", "--json").out)
    stopped = fresh.afk("worker", "stop")

    assert (shown.code, shown.out.split()[0]) == (0, str(state.pid))
    assert told["pid"] == state.pid
    assert {"afkcli", "afk_provider_openai", "openai"} <= set(told["holds"])
    assert told["memory_bytes"] > 1_000_000
    assert stopped.code == 0
    until(lambda: has_ended(state.pid), "the end of the worker")
    assert not Path(fresh.address).exists()


def test_the_documented_commands_work(fresh: WarmShell) -> None:
    page = REPOSITORY / "docs" / "how-to" / "warm-worker.md"
    console = next(block for block in blocks(page) if block.language == "console")
    commands = [line.split()[2:] for line in console.text.splitlines() if line.startswith("$ afk ")]
    state = fresh.warm_up()

    done = [fresh.afk(*words) for words in commands]

    assert commands == [["worker", "status"], ["worker", "stop"]]
    assert [one.code for one in done] == [0, 0]
    assert len(done[0].out.split("  ")[:5]) == len(console.text.splitlines()[1].split("  ")[:5])
    until(lambda: has_ended(state.pid), "the end of the worker")


def test_status_says_why_another_command_ran_cold_and_not_that_it_did_itself(fresh: WarmShell) -> None:
    fresh.warm_up()
    assert fresh.afk("completion", "bash").code == 0
    until(lambda: fresh.worker is not None and fresh.worker.reason, "the reason")

    shown = [json.loads(fresh.afk("worker", "status", "--json").out)["last_cold"] for _ in range(3)]

    assert shown == ["`afk completion` runs cold"] * 3


@needs_root
def test_stop_ends_a_worker_of_another_container_and_no_process_that_has_its_number_here(fresh: WarmShell) -> None:
    """Containers may share the folder of the sockets; each has process ids of its own."""
    state = fresh.warm_up()
    script = f"""
        echo {state.pid - 1} > /proc/sys/kernel/ns_last_pid
        sleep 600 & bystander=$!
        test $bystander = {state.pid} || exit 3
        "$0" worker status --json
        "$0" worker stop || exit 4
        kill $bystander || exit 5
    """
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", script, AFK],
        env=fresh.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT,
    )
    if b"unshare failed" in done.stderr:
        pytest.skip("this system lets nobody make a namespace")

    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["memory_bytes"] == 0  # of another process it would be wrong
    until(lambda: has_ended(state.pid), "the end of the worker")


def test_without_a_worker_status_says_so(fresh: WarmShell) -> None:
    done = fresh.afk("worker", "status")

    assert (done.code, done.out) == (0, "")
    assert "no warm worker runs" in done.err
    assert fresh.afk("worker", "status", "--json").out == ""
    assert fresh.afk("worker", "stop").code == 0


def test_a_worker_ends_when_its_folder_vanishes(fresh: WarmShell) -> None:
    state = fresh.warm_up()

    shutil.rmtree(fresh.runtime / "afk", ignore_errors=True)  # a child may rehearse in it

    until(lambda: has_ended(state.pid), "the end of the worker")


def test_a_worker_ends_when_the_home_of_its_commands_vanishes(fresh: WarmShell) -> None:
    state = fresh.warm_up()

    shutil.rmtree(fresh.home)

    until(lambda: has_ended(state.pid), "the end of the worker")
    assert not Path(fresh.address).exists()


def test_a_folder_above_that_gives_its_group_to_others_does_not_keep_commands_cold(fresh: WarmShell) -> None:
    """By the setgid bit, which a folder made in it gets too; the compiled client takes none with such a bit."""
    fresh.runtime.chmod(0o2700)

    fresh.warm(lambda: fresh.afk("threads"))


def test_a_worker_ends_when_its_installation_is_removed(fresh: WarmShell, tmp_path: Path) -> None:
    """As that of a run in an environment for this run alone: it would take the place of a worker that is of use."""
    made = environment(tmp_path / "made")
    done = subprocess.run(
        [made / "bin" / "afk", "run", "-n", "-q", "hi"],
        env=fresh.environment(),
        cwd=fresh.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT,
    )
    assert (done.returncode, done.stdout[-3:]) == (0, b"hi\n")
    folder = str(fresh.runtime / "afk")
    until(lambda: is_waiting(folder), "a child that stands by")

    shutil.rmtree(made)

    until(lambda: not place.held(folder), "the end of the worker")


def is_waiting(folder: str) -> bool:
    """Return whether there is a worker in a folder whose child waits for a command, and does nothing else."""
    for _ in range(10):
        time.sleep(0.02)
        states = [state for address in place.held(folder) if (state := read_state(address)) is not None]
        if not states or [stat_of(child)[:1] for child in standing_by(states[0].pid)] != [["S"]]:
            return False
    return True


def environment(folder: Path) -> Path:
    """Make an environment of Python that has what this one has, and the console script."""
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    packages.mkdir(parents=True)
    (folder / "bin").mkdir()
    base = Path(sys.executable).resolve()
    (folder / "bin" / "python").symlink_to(base)
    (folder / "pyvenv.cfg").write_text(f"home = {base.parent}\n")
    here = [entry for entry in sys.path if entry.endswith("site-packages")]
    (packages / "others.pth").write_text("".join(f"import site; site.addsitedir({entry!r})\n" for entry in here))
    script = folder / "bin" / "afk"
    script.write_text(f"#!{folder}/bin/python\nfrom afkcli.entry import main\nmain()\n")
    script.chmod(0o755)
    return folder


def test_a_worker_ends_when_it_is_idle(fresh: WarmShell) -> None:
    config = fresh.home / "afk" / "config"
    config.mkdir(parents=True)
    (config / "config.toml").write_text("[worker]\nidle_minutes = 0.01\n")
    assert fresh.afk("run", "-n", "hi").code == 0
    until(lambda: Path(f"{fresh.address}.lock").exists(), "a worker")

    until(lambda: not place.is_held(fresh.address), "the end of the worker")

    assert not Path(fresh.address).exists()


@pytest.mark.parametrize("switch", ["off", "OFF", "0", "no", "false"])
def test_the_variable_turns_it_off(fresh: WarmShell, switch: str) -> None:
    assert fresh.afk("run", "-n", "hi", AFK_WORKER=switch).code == 0

    assert not (fresh.runtime / "afk").exists()


@pytest.mark.parametrize(
    "variables",
    [
        {"CI": "true"},
        {"CI": "1"},
        {"JENKINS_URL": "https://ci.example/", "BUILD_ID": "12"},
        {"TEAMCITY_VERSION": "2026.1"},
        {"TF_BUILD": "True"},
        {"CODEBUILD_BUILD_ID": "afk:1"},
        {"bamboo_buildKey": "AFK-MAIN"},
        {"GO_PIPELINE_NAME": "afk"},
        {"PYTHONPATH": "/nonexistent"},
        {"HTTPS_PROXY": "http://me:pw@127.0.0.1:1"},
    ],
)
def test_it_is_not_started_where_it_must_not_be(fresh: WarmShell, variables: dict[str, str]) -> None:
    fresh.afk("run", "-n", "hi", AFK_WORKER="", NO_PROXY="127.0.0.1", **variables)

    assert not processes_of(fresh.runtime)  # also none that has not begun yet
    assert not (fresh.runtime / "afk").exists()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_run_under_strace_starts_none_and_strace_ends_with_it(fresh: WarmShell) -> None:
    done = subprocess.run(
        ["strace", "-f", "-o", os.devnull, "-e", "signal=none", "-e", "trace=none", AFK, "run", "-n", "hi"],
        cwd=fresh.folder,
        env=fresh.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT,
    )

    assert done.returncode == 0
    assert not place.is_held(fresh.address)


def test_the_config_turns_it_off(fresh: WarmShell) -> None:
    config = fresh.home / "afk" / "config"
    config.mkdir(parents=True)
    (config / "config.toml").write_text("[worker]\nenabled = false\n")

    assert fresh.afk("run", "-n", "hi").code == 0

    # The process that was started reads the config, and ends without taking the place of a worker.
    assert not Path(f"{fresh.address}.lock").exists()


def test_a_command_that_asks_no_model_starts_none(fresh: WarmShell) -> None:
    assert fresh.afk("threads").code == 0
    assert fresh.afk("--version").code == 0

    assert not (fresh.runtime / "afk").exists()


@pytest.mark.parametrize("key", ['enabled = "no"', "idle_minutes = -1", "idle_minutes = true", "idle = 3"])
def test_a_wrong_value_in_the_config_is_named(fresh: WarmShell, key: str) -> None:
    config = fresh.home / "afk" / "config"
    config.mkdir(parents=True)
    (config / "config.toml").write_text(f"[worker]\n{key}\n")

    done = fresh.afk("run", "-n", "hi")

    assert done.code == 2
    assert "worker" in done.err
    assert "line 2" in done.err


def test_first_runs_at_once_end_with_one_worker(fresh: WarmShell) -> None:
    runs = [fresh.start("run", "-n", "--no-memory", "hi") for _ in range(4)]
    for process in runs:
        process.communicate()
    until(lambda: fresh.worker is not None, "a worker")

    assert len(place.held(str(fresh.runtime / "afk"))) == 1
