"""What a model gets from `shell.run`, and what is left of its commands: real processes only."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from afk_tools_shell import Settings, afk_tools
from afk_tools_shell.command import Output

from afkcli.plugin import ConfigError, PluginError, ToolError
from afkcli.processes import descendants, supervised

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="tools.shell is refused on Windows: see there")

KEY = "sk-canary-0123456789"
LIMIT = 60  # seconds after which something hangs; never a measure of speed
linux = pytest.mark.skipif(sys.platform != "linux", reason="other platforms have no subreaper and no /proc")


def shell(**settings):
    """Return the tool without a sandbox, so that the tests see the processes of its commands: see test_sandbox.py."""
    (tool,) = afk_tools(Settings(**{"sandbox": "off", **settings}))
    return tool


def run(*argv, settings=None, **arguments):
    """Return what the model is given for a command."""
    return asyncio.run(shell(**(settings or {})).call({"argv": list(argv), **arguments}))


def error(*argv, settings=None, **arguments):
    """Return the error that the model gets for a command that failed to run."""
    with pytest.raises(ToolError) as caught:
        run(*argv, settings=settings, **arguments)
    return str(caught.value)


def stopped(*argv, ready="ready"):
    """Return the result of a command without an end, with enough time for it to say `ready`."""
    for seconds in (0.3, 1, 3, 10, 30):
        told = error(*argv, timeout_s=seconds)
        assert told.startswith(f"the command took longer than {seconds} s and was stopped\n")
        if ready in told:
            return told.partition("\n")[2]
    raise AssertionError(told)


def runs(pid):
    """Return whether the process runs; one that has ended and waits for its parent does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def wait_until(condition):
    until = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < until, "it does not happen"
        time.sleep(0.01)


def pids(folder, count):
    """Return the process ids that the scripts below have noted, when there are `count`."""
    wait_until(lambda: len([path for path in folder.glob("*.pid") if path.read_text().strip()]) >= count)
    return [int(path.read_text()) for path in folder.glob("*.pid")]


def tree(folder, *, note_end=""):
    """Return a command with a child, a grandchild, one in a session of its own, and a daemon without environment.

    All of them hold stdout, and none ends for ten minutes.
    """
    script = folder / "tree.sh"
    script.write_text(
        textwrap.dedent(f"""
        cd {folder}
        rm -f *.pid
        echo $$ > command.pid
        sleep 600 & echo $! > child.pid
        sh -c 'sleep 600 & echo $! > grandchild.pid; wait' &
        setsid sh -c 'echo $$ > session.pid; sleep 600' &
        (setsid env -i {shutil.which("sh")} -c 'trap "" HUP INT TERM
            {shutil.which("sleep")} 600 & echo $! > daemon.pid; exit 0' &)
        while [ $(cat *.pid | wc -l) -lt 5 ]; do sleep 0.01; done
        echo ready
        {note_end or "wait"}
        """)
    )
    return ["sh", str(script)]


class TestWhatTheModelIsGiven:
    def test_exit_status_stdout_and_stderr(self):
        assert run("sh", "-c", "echo out; echo err >&2; exit 3") == "exit status: 3\nstdout:\nout\nstderr:\nerr"

    def test_a_silent_command_returns_only_its_status(self):
        assert run("true") == "exit status: 0"

    def test_a_signal_is_named(self):
        assert run("sh", "-c", "echo first; kill -SEGV $$") == "ended by signal SIGSEGV\nstdout:\nfirst"

    def test_no_shell_reads_the_arguments(self, tmp_path):
        (tmp_path / "file").touch()

        said = run("printf", "%s\\n", "$HOME", "*", "a; touch b", "`id`", "", "é 🌱", cwd=str(tmp_path))

        assert said == "exit status: 0\nstdout:\n$HOME\n*\na; touch b\n`id`\n\né 🌱"
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def test_bytes_that_are_not_text_are_replaced(self):
        assert run("printf", "\\377\\376ok\\000") == "exit status: 0\nstdout:\n��ok\0"

    @pytest.mark.parametrize(
        ("program", "told"),
        [
            ("no-such-program", "there is no program 'no-such-program' on the PATH; argv is not a shell command"),
            ("./no-such-program", "'./no-such-program' could not be run: No such file or directory"),
            ("/etc/passwd", "'/etc/passwd' could not be run: Permission denied"),
            ("/etc", "'/etc' could not be run: Permission denied"),
        ],
    )
    def test_a_program_that_cannot_be_run_is_named(self, program, told):
        assert error(program).startswith(told)

    def test_arguments_that_are_too_long_are_an_error(self):
        assert "rgument list too long" in error("true", "x" * 4_000_000)

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            ({"argv": "ls -l"}, "argv: Input should be a valid list"),
            ({"argv": []}, "argv: List should have at least 1 item"),
            ({"argv": [""]}, "empty program name"),
            ({"argv": ["ls", "a\0b"]}, "NUL"),
            ({"argv": ["ls"], "cwd": "a\0b"}, "NUL"),
            ({"argv": ["ls"], "timeout_s": 0}, "greater than 0"),
            ({"argv": ["ls"], "timeout_s": float("nan")}, "greater than 0"),
            ({"argv": ["ls"], "shell": True}, "shell: Extra inputs are not permitted"),
        ],
    )
    def test_wrong_arguments_are_named(self, arguments, told):
        with pytest.raises(ToolError, match=told):
            asyncio.run(shell().call(arguments))

    def test_the_description_says_what_the_tool_does(self):
        tool = shell(timeout_s=30)
        assert tool.changes
        assert not tool.idempotent
        assert "no shell" in tool.description
        assert "30 s" in tool.description
        assert set(tool.spec.parameters["properties"]) == {"argv", "cwd", "stdin", "timeout_s"}


class TestStdin:
    def test_stdin_is_empty_by_default(self):
        assert run("cat") == "exit status: 0"

    def test_stdin_that_is_given_is_read(self):
        assert run("cat", stdin="one\ntwo") == "exit status: 0\nstdout:\none\ntwo"

    def test_a_command_that_does_not_read_stdin_does_not_block(self):
        assert run("true", stdin="x" * 5_000_000) == "exit status: 0"

    def test_a_large_stdin_is_passed_completely(self):
        assert run("wc", "-c", stdin="x" * 5_000_000).split()[-1] == "5000000"

    def test_no_command_can_ask_at_the_terminal(self):
        assert "exit status: 0" not in run("sh", "-c", "exec < /dev/tty && cat")


class TestFolder:
    def test_the_working_directory_is_that_of_the_run(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert run("pwd", "-P") == f"exit status: 0\nstdout:\n{tmp_path.resolve()}"

    def test_the_working_directory_of_the_config_is_used(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "work").mkdir()
        assert run("pwd", settings={"cwd": "~/work"}).endswith("/work")

    def test_a_call_may_name_a_relative_working_directory(self, tmp_path):
        (tmp_path / "sub").mkdir()
        assert run("pwd", cwd="sub", settings={"cwd": str(tmp_path)}).endswith("/sub")
        assert run("pwd", cwd="/", settings={"cwd": str(tmp_path)}).endswith("\n/")

    def test_a_missing_working_directory_is_an_error(self, tmp_path):
        assert "there is no folder" in error("pwd", cwd=str(tmp_path / "none"))
        assert "there is no folder" in error("pwd", settings={"cwd": str(tmp_path / "none")})


class TestEnvironment:
    def variables(self, monkeypatch, set_, **settings):
        for name in list(os.environ):
            monkeypatch.delenv(name)
        for name, value in set_.items():
            monkeypatch.setenv(name, value)
        lines = run(shutil.which("env", path="/usr/bin:/bin"), settings=settings).splitlines()[2:]
        return dict(line.split("=", 1) for line in lines)

    def test_the_environment_of_a_command_has_no_key_of_afk(self, monkeypatch):
        passed = {
            "PATH": "/usr/bin:/bin",
            "HOME": "/nowhere",
            "LANG": "C",
            "LC_ALL": "C",
            "LC_TIME": "C",
            "SHELL": "/bin/sh",
            "TMPDIR": "/tmp",
            "USER": "me",
        }
        keys = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "MY_PASSWORD")
        others = ("AFK_HOME", "OPENAI_BASE_URL", "PYTHONPATH", "LD_PRELOAD", "BASH_ENV", "SSH_AUTH_SOCK")
        there = self.variables(monkeypatch, {**passed, **dict.fromkeys((*keys, *others), KEY), "TERM": "xterm"})
        assert there == {**passed, "TERM": "dumb"}

    @pytest.mark.parametrize("locale", [{}, {"LANG": "C"}, {"LC_CTYPE": "C.UTF-8"}])
    def test_a_locale_is_passed_on_as_it_is(self, monkeypatch, locale):
        there = self.variables(monkeypatch, {"PATH": "/usr/bin:/bin", **locale})
        assert there == {"PATH": "/usr/bin:/bin", "TERM": "dumb", **locale}

    def test_env_of_the_config_is_added_and_takes_precedence(self, monkeypatch):
        added = {"PAGER": "cat", "TERM": "xterm", "PYTHONPATH": "/nowhere", "PYTHONSTARTUP": "/nowhere"}
        there = self.variables(monkeypatch, {"PATH": "/usr/bin:/bin"}, env=added)
        assert there == {"PATH": "/usr/bin:/bin", **added}

    def test_a_command_inherits_no_open_file(self):
        said = run("sh", "-c", "ls /dev/fd/")
        with Path(__file__).open() as file:
            os.set_inheritable(file.fileno(), True)
            assert run("sh", "-c", "ls /dev/fd/") == said
        assert len(said.split()) <= 4 + 4  # the four words of the frame; 0, 1, 2 and that of ls

    def test_signals_have_their_default_actions(self):
        """Python ignores SIGPIPE, which would make `yes | head` complain; and afk may run by nohup."""
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            said = run("sh", "-c", "grep SigIgn /proc/self/status 2>/dev/null; kill -HUP $$; echo still there")
        finally:
            signal.signal(signal.SIGHUP, before)
        assert said.startswith("ended by signal SIGHUP")
        assert sys.platform != "linux" or "SigIgn:\t0000000000000000" in said


# As root nothing is hidden, so a tree that root starts becomes nobody's, dumpable as any that nobody starts.
AS_NOBODY = """
import asyncio, ctypes, json, os, shutil, sys
import pydantic
from afk_tools_shell import Settings, afk_tools, command, tools
from afkcli.core.contract.tools import ToolError
afk_tools(Settings(sandbox="off"))[0].spec
if os.geteuid() == 0:
    os.chdir("/")
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    if not os.access(sys.executable, os.X_OK):  # in root's own home
        sys.executable = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
if sys.argv[1] == "not hidden":
    tools.hide_memory = lambda: True
(tool,) = afk_tools(Settings(sandbox="off"))
try:
    print(json.dumps(asyncio.run(tool.call({"argv": ["sh", "-c", sys.argv[2].replace("AFK", str(os.getpid()))]}))))
except ToolError as error:
    print(json.dumps(str(error)))
"""


@linux
class TestKeys:
    def said(self, hidden, script):
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, hidden, script],
            env={"PATH": "/usr/bin:/bin", "OPENAI_API_KEY": KEY},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    SEARCH = "cat /proc/AFK/environ | tr '\\0' '\\n'; cat /proc/$PPID/environ | tr '\\0' '\\n'; env"

    def test_a_command_does_not_find_afks_key_in_the_process_table(self):
        said = self.said("hidden", self.SEARCH)
        assert KEY not in said
        assert "Permission denied" in said
        assert said.count("PATH=/usr/bin:/bin") == 1  # of the command itself

    def test_a_command_would_find_the_key_if_afk_were_not_hidden(self):
        """The same, with the one call left out: what the test above shows is due to it."""
        assert f"OPENAI_API_KEY={KEY}" in self.said("not hidden", self.SEARCH)

    def test_not_even_a_command_of_root_finds_it(self):
        """As the user who runs the tests: root's commands lose the rights that would show it all."""
        said = run("cat", f"/proc/{os.getpid()}/environ", f"/proc/{os.getpid()}/maps")
        assert said.count("Permission denied") == 2
        assert "stdout" not in said

    def test_the_tool_is_refused_if_afk_cannot_hide_itself(self, monkeypatch):
        tool = shell()
        monkeypatch.setitem(sys.modules, "ctypes", None)  # nothing can be asked of the kernel

        with pytest.raises(ToolError, match="refused: afk cannot hide its keys"):
            asyncio.run(tool.call({"argv": ["true"]}))
        with pytest.raises(PluginError, match="refused: afk cannot hide its keys"):
            shell()


class TestOutput:
    def test_long_output_is_cut_with_a_visible_mark(self):
        said = run("sh", "-c", "echo begin; yes | head -c 3000000; echo end", settings={"max_output_bytes": 1000})
        assert said.startswith("exit status: 0\nstdout:\nbegin\ny\ny\n")
        assert "\n[... 2999010 bytes were cut out here ...]\n" in said
        assert said.endswith("y\nend")
        assert len(said) < 1200

    def test_both_streams_are_bounded_each(self):
        said = run("sh", "-c", "yes o | head -c 100000; yes e | head -c 100000 >&2", settings={"max_output_bytes": 200})
        assert said.count("[... 99800 bytes were cut out here ...]") == 2

    def test_output_at_the_limit_is_complete(self):
        assert "cut out" not in run("sh", "-c", "yes | head -c 1000", settings={"max_output_bytes": 1000})

    def test_a_flood_of_output_does_not_fill_the_memory(self):
        """Bounded while it is read: a flood does not pass through afk's memory."""
        output = Output(1000)
        for _ in range(1000):
            output.take(b"x" * 65536)
            assert len(output._head) + len(output._tail) <= 2500
        assert "[... 65535000 bytes were cut out here ...]" in output.text()

    def test_a_character_is_not_cut_in_half(self):
        output = Output(11)
        output.take("€".encode() * 1000)
        head, _, tail = output.text().split("\n")
        assert (head, tail) == ("€", "€")
        assert "[... 2994 bytes" in output.text()

    def test_a_flood_ends_with_its_time(self):
        told = error("yes", timeout_s=0.3)
        assert told.startswith(
            "the command took longer than 0.3 s and was stopped\nended by signal SIGTERM\nstdout:\ny"
        )
        assert "were cut out here" in told


class TestTime:
    def test_output_before_the_timeout_is_returned(self):
        assert stopped("sh", "-c", "echo ready; sleep 600") == "ended by signal SIGTERM\nstdout:\nready"

    def test_parents_are_stopped_before_their_children(self):
        """Else a shell reports that its child was terminated, and ends in its own way, now and then."""
        mine, parent, child, grandchild = os.getpid(), 8_000_007, 8_000_008, 8_000_016  # a set has them the other way
        rows = [(grandchild, child, parent), (child, parent, parent), (parent, mine, parent)]
        found = [descendants.Process(*row) for row in rows]
        assert descendants.descendants(found, [mine, parent]) == [child, grandchild]
        assert descendants.descendants(found, [mine]) == [parent, child, grandchild]

    def test_a_call_cannot_have_more_than_the_config_gives(self):
        assert "longer than 0.3 s" in error("sleep", "600", timeout_s=500, settings={"timeout_s": 0.3})

    def test_a_command_may_clean_up(self, tmp_path):
        stopped("sh", "-c", f"trap 'echo cleaned > {tmp_path}/note; exit 1' TERM; echo ready; sleep 600 & wait")
        assert (tmp_path / "note").read_text() == "cleaned\n"

    def test_one_that_ignores_the_signal_is_killed(self):
        assert "ended by signal SIGKILL" in stopped("sh", "-c", "trap '' TERM HUP INT; echo ready; sleep 600")

    def test_one_that_is_suspended_is_killed(self):
        assert "ended by signal" in stopped("sh", "-c", "echo ready; kill -STOP $$; sleep 600")

    def test_one_that_closes_its_streams_is_waited_for(self):
        assert run("sh", "-c", "exec >&- 2>&-; sleep 0.3; exit 7") == "exit status: 7"
        stopped("sh", "-c", "echo ready; exec >&- 2>&-; sleep 600")

    @linux
    def test_children_grandchildren_and_daemons_are_stopped(self, tmp_path):
        stopped(*tree(tmp_path))
        assert [pid for pid in pids(tmp_path, 5) if runs(pid)] == []


class TestWhatIsLeftRunning:
    def test_a_background_process_that_holds_stdout_holds_nothing_up(self, tmp_path):
        said = run("sh", "-c", f"sleep 600 & echo $! > {tmp_path}/sleep.pid; echo done")
        assert said == ("exit status: 0\nstdout:\ndone\n[1 process that the command had left running: stopped]")
        assert not runs(*pids(tmp_path, 1))

    def test_output_of_background_processes_is_read(self):
        assert run("sh", "-c", "(sleep 0.2; echo late) & echo early").startswith("exit status: 0\nstdout:\nearly\nlate")

    @linux
    def test_daemons_are_stopped_too(self, tmp_path):
        said = run(*tree(tmp_path, note_end="exit 0"))
        assert "processes that the command had left running: stopped]" in said
        assert [pid for pid in pids(tmp_path, 5) if runs(pid)] == []

    def test_the_command_ends_if_the_supervisor_is_killed(self, tmp_path):
        said = run("sh", "-c", f"echo $$ > {tmp_path}/command.pid; kill -9 $PPID; sleep 600")
        assert said.startswith("exit status: unknown\n[the supervisor of the command was killed: all")
        wait_until(lambda: not runs(*pids(tmp_path, 1)))


class TestCancelled:
    @linux
    def test_nothing_is_left(self, tmp_path):
        before = children()  # servers that other tests share

        async def cancelled():
            call = asyncio.ensure_future(shell().call({"argv": tree(tmp_path)}))
            noted = await asyncio.to_thread(pids, tmp_path, 5)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            return noted

        noted = asyncio.run(cancelled())
        wait_until(lambda: not any(runs(pid) for pid in noted))
        assert children() == before

    @linux
    @pytest.mark.parametrize("seconds", [0.2, 0.0])
    def test_at_any_moment(self, monkeypatch, seconds):
        """Also before the command has started, while it is being stopped, and if nothing waits for the supervisor."""
        monkeypatch.setattr("afkcli.processes.supervised.CLOSE_SECONDS", seconds)
        before = children()

        async def cancelled(after):
            call = asyncio.ensure_future(shell().call({"argv": ["sh", "-c", "setsid sleep 600 & sleep 600"]}))
            await asyncio.sleep(after)
            call.cancel()
            await asyncio.wait({call})

        for moment in range(20):
            asyncio.run(cancelled(moment / 200))
        wait_until(lambda: children() == before)
        found = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True).stdout.splitlines()
        mine = {str(supervised.SUPERVISOR), str(os.getpid())}  # other processes of tests have supervisors too
        assert [line for line in found if mine <= set(line.split())] == []

    @linux
    def test_no_process_is_left_if_afk_is_killed(self, tmp_path):
        code = """
            import asyncio, sys
            from afk_tools_shell import Settings, afk_tools
            (tool,) = afk_tools(Settings(sandbox="off"))
            asyncio.run(tool.call({"argv": sys.argv[1:]}))
        """
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), *tree(tmp_path)])
        noted = pids(tmp_path, 5)
        process.kill()
        process.wait(LIMIT)
        wait_until(lambda: not any(runs(pid) for pid in noted))

    def test_several_at_a_time_do_not_touch_each_other(self):
        async def both():
            tool = shell()
            slow = asyncio.ensure_future(tool.call({"argv": ["sh", "-c", "sleep 0.6; echo whole"]}))
            other = asyncio.ensure_future(tool.call({"argv": ["sleep", "600"]}))
            await asyncio.sleep(0.3)
            other.cancel()
            return await slow

        assert asyncio.run(both()) == "exit status: 0\nstdout:\nwhole"


def children():
    """Return the process ids of this process's children."""
    listed = subprocess.Popen(["ps", "-A", "-o", "pid=,ppid="], stdout=subprocess.PIPE, text=True)
    lines = [line.split() for line in listed.communicate()[0].splitlines()]
    return [int(pid) for pid, parent in lines if int(parent) == os.getpid() and int(pid) != listed.pid]


class TestOtherPlatforms:
    """What macOS does, as far as Linux can show it: the list of processes from ps, and no subreaper."""

    def test_windows_is_refused(self, monkeypatch):
        monkeypatch.setattr(sys, "platform", "win32")
        with pytest.raises(PluginError, match=r"tools\.shell needs Linux or macOS"):
            shell()

    def test_children_are_found_by_ps(self, tmp_path, monkeypatch):
        changed = (
            (supervised.SUPERVISOR.parent / "descendants.py").read_text().replace('"/proc/self/stat"', '"/no/such"')
        )
        changed = changed.replace('sys.platform != "linux"', "True")
        shutil.copytree(supervised.SUPERVISOR.parent, tmp_path, dirs_exist_ok=True)
        (tmp_path / "descendants.py").write_text(changed)
        monkeypatch.setattr(supervised, "SUPERVISOR", tmp_path / "supervisor.py")

        script = "cd {}; sleep 600 & echo $! > a.pid; setsid sh -c 'echo $$ > b.pid; sleep 600' & echo ready; wait"
        assert stopped("sh", "-c", script.format(tmp_path)).endswith("stdout:\nready")
        assert [pid for pid in pids(tmp_path, 2) if runs(pid)] == []
        assert run("sh", "-c", "echo hello; sleep 600 &").endswith("had left running: stopped]")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"timeout_s": 0.0}, "timeout_s must be more than 0 seconds (got 0.0)"),
        ({"timeout_s": float("inf")}, "timeout_s must be more than 0 seconds (got inf)"),
        ({"max_output_bytes": 0}, "max_output_bytes must be from 100 to 50000 (got 0)"),
        ({"max_output_bytes": 10**9}, "max_output_bytes must be from 100 to 50000 (got 1000000000)"),
        ({"env": {"A=B": "c"}}, "env has 'A=B'"),
        ({"env": {"": "c"}}, "env has ''"),
        ({"env": {"A": "\0"}}, "env has 'A'"),
    ],
)
def test_an_invalid_setting_is_named(settings, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        shell(**settings)
