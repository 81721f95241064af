"""`api_key_command`, `${NAME}` in keys and headers, and the order in which the places of a key count."""

from __future__ import annotations

import json
import os
import shlex
import signal
import stat
import sys
import time
from pathlib import Path

import pytest

from afkcli.host import key_command
from afkcli.testing.model_server import ModelServer, Step
from tests.commands.conftest import on_terminal
from tests.e2e.shell import LIMIT, Shell


@pytest.fixture
def bare(shell: Shell, server: ModelServer) -> Shell:
    """A shell whose model is the scripted server's, without a key."""
    shell.env.update(OPENAI_BASE_URL=server.base_url, AFK_MODEL="openai/m")
    return shell


def user_config(shell: Shell, text: str) -> None:
    path = shell.home / "afk" / "config" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def printing(shell: Shell, code: str) -> None:
    """Have the config name a command that runs Python code."""
    words = [sys.executable, "-c", code]
    user_config(shell, f"[providers.openai]\napi_key_command = {json.dumps(words)}\n")


def counting(shell: Shell, code: str) -> Path:
    """As `printing`; the file that is returned gets a line each time the command runs."""
    ran = shell.folder / "ran"
    printing(shell, f"open({str(ran)!r}, 'a').write('x\\n'); {code}")
    return ran


def sent_key(server: ModelServer) -> str:
    return server.requests[-1].headers["authorization"].removeprefix("Bearer ")


def test_each_place_of_a_key_comes_before_the_next(bare: Shell, server: ModelServer) -> None:
    ran = bare.folder / "ran"
    words = [sys.executable, "-c", f"open({str(ran)!r}, 'a').write('x'); print('sk-of-the-command')"]
    command = f"[providers.openai]\napi_key_command = {json.dumps(words)}\n"

    user_config(bare, command)
    assert bare.in_process("run", "Hi").code == 0
    assert sent_key(server) == "sk-of-the-command"
    assert ran.read_text() == "x"

    user_config(bare, command + "api_key = 'sk-of-the-config'\n")
    assert bare.in_process("run", "Hi").code == 0
    assert sent_key(server) == "sk-of-the-config"

    assert bare.in_process("keys", "set", "openai", stdin=b"sk-of-the-file").code == 0
    assert bare.in_process("run", "Hi").code == 0
    assert sent_key(server) == "sk-of-the-file"

    assert bare.in_process("run", "Hi", OPENAI_API_KEY="sk-of-the-environment").code == 0
    assert sent_key(server) == "sk-of-the-environment"
    assert ran.read_text() == "x"


def test_the_command_runs_once_in_a_run_of_several_requests_and_its_key_is_masked(bare: Shell) -> None:
    ran = counting(bare, "print('sk-canary-9876543210')")
    with ModelServer([Step(status=503), Step(text=["it is sk-canary-9876543210"])]) as server:
        user = bare.home / "afk" / "config" / "config.toml"
        user.write_text("retry_delay = 0.01\n" + user.read_text())
        done = bare.in_process("run", "Hi", OPENAI_BASE_URL=server.base_url)
        assert len(server.requests) == 2
    assert done.code == 0
    assert ran.read_text() == "x\n"
    assert "canary" not in done.err
    assert "canary" not in json.dumps([event for event in bare.log() if event["type"] == "warning"])


def test_the_command_runs_only_for_a_request(bare: Shell) -> None:
    ran = counting(bare, "print('sk-1')")
    for arguments in (
        ("doctor",),
        ("keys", "list"),
        ("config", "show"),
        ("plugins",),
        ("run", "--dry-run", "Hi"),
        ("threads",),
        ("run", "-m", "local/nowhere", "Hi"),
        ("run", "--temperature", "hot", "Hi"),
    ):
        bare.in_process(*arguments)
        assert not ran.exists(), arguments


def test_the_command_of_a_fallback_model_runs_only_where_it_answers(bare: Shell, server: ModelServer) -> None:
    ran = counting(bare, "print('sk-1')")
    assert bare.in_process("run", "-m", "local", "--fallback", "openai/m", "Hi").code in (0, 2)
    assert not ran.exists()


def test_doctor_runs_the_command_where_it_is_asked_to(bare: Shell) -> None:
    ran = counting(bare, "print('sk-canary-9876543210')")
    done = bare.in_process("doctor", "--key-commands", "--json")
    row = next(row for row in done.events if row["check"] == "key of openai")
    assert (row["status"], ran.read_text()) == ("ok", "x\n")
    assert "canary" not in done.out


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "import sys; print('no such entry', file=sys.stderr); sys.exit(7)",
            "it failed with exit code 7: no such entry",
        ),
        (
            "import sys; print('first\\nlast \\x1b[31m line\\n', file=sys.stderr); sys.exit(1)",
            "it failed with exit code 1: last \\x1b[31m line",
        ),
        ("import os; os.kill(os.getpid(), 9)", "it failed with signal 9"),
        ("pass", "the first line that it prints is not a key: it is empty"),
        ("print()", "the first line that it prints is not a key: it is empty"),
        ("print('\\x1b[1msk-1')", "it holds control characters"),
        ("print('k' * 100_000)", "more than any key"),
        ("print('schlüssel')", "a character that a key cannot have"),
    ],
)
def test_a_command_that_prints_no_key_ends_the_run_with_one_line(bare: Shell, code: str, said: str) -> None:
    printing(bare, code)

    done = bare.in_process("run", "-t", "a", "Hi")

    assert done.code == 4
    lines = [line for line in done.err.splitlines() if "api_key_command" in line]
    assert len(lines) == 1
    assert "[providers.openai] api_key_command" in lines[0]
    assert "config.toml, line 2" in lines[0]
    assert said in lines[0].replace("␛", "\\x1b")


def test_the_question_is_kept_where_the_command_fails(bare: Shell, server: ModelServer) -> None:
    printing(bare, "raise SystemExit(1)")
    assert bare.in_process("run", "-t", "a", "How are you?").code == 4
    printing(bare, "print('sk-1')")
    assert bare.in_process("run", "-t", "a", "Say it").code == 0
    assert "How are you?" in json.dumps(server.bodies[-1])


def test_only_the_first_line_of_the_output_is_the_key(bare: Shell, server: ModelServer) -> None:
    printing(bare, "print('  sk-first \\r\\nuser: me\\nurl: x')")
    assert bare.in_process("run", "Hi").code == 0
    assert sent_key(server) == "sk-first"


def test_a_child_that_keeps_the_output_open_does_not_hold_up_the_run(bare: Shell, server: ModelServer) -> None:
    sleeper = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(30)'])"
    pid = bare.folder / "pid"
    printing(bare, f"{sleeper}; open({str(pid)!r}, 'w').write(str(p.pid)); print('sk-1')")
    try:
        assert bare.in_process("run", "Hi").code == 0
        assert Path("/proc", pid.read_text()).exists() or sys.platform != "linux"
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("by_child", [False, True])
def test_a_command_whose_output_never_ends_is_stopped(bare: Shell, by_child: bool) -> None:
    endless = "while True: print('sk-endless' * 1000)"
    child = f"{sys.executable} -c {shlex.quote(endless)}"
    printing(bare, f"import os; os.system({child!r})" if by_child else endless)
    said = bare.in_process("run", "Hi")

    assert said.code == 4
    assert "it was stopped, because it printed more than any key has" in said.err
    assert "sk-endless" not in said.err


@pytest.mark.parametrize("end", ["sys.exit(3)", "print(); print('x'); sys.exit(1)", "os.kill(os.getpid(), 15)"])
def test_a_key_that_a_failing_command_prints_on_both_streams_is_masked(bare: Shell, end: str) -> None:
    code = "import os, sys; print('of no use: sk-printed-twice', flush=True)"
    printing(bare, f"{code}; print('refused sk-printed-twice', file=sys.stderr, flush=True); {end}")
    said = bare.in_process("run", "Hi")

    assert said.code == 4
    assert "refused ***" in said.err
    kept = [file.read_bytes() for file in (bare.home / "afk").rglob("*") if file.is_file()]
    config = (bare.home / "afk" / "config" / "config.toml").read_bytes()
    assert not any(b"sk-printed-twice" in data for data in kept if data != config)


def test_a_command_that_hangs_is_ended(bare: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_command, "SECONDS", 0.5)
    printing(bare, "import sys, time; print('waiting for you', file=sys.stderr, flush=True); time.sleep(100)")
    done = bare.in_process("run", "Hi")
    assert done.code == 4
    assert "it did not end within 0.5 s" in done.err


def test_a_run_that_is_stopped_ends_a_command_that_hangs(bare: Shell) -> None:
    ran = counting(bare, "import time; time.sleep(100)")
    process = bare.start("run", "Hi")
    until = time.monotonic() + LIMIT
    while not ran.exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize(
    ("value", "code", "said"),
    [
        ('["no-such-program-7"]', 4, "there is no program 'no-such-program-7'; install it, or change the setting"),
        ('["/nowhere/pass", "x"]', 4, "there is no program '/nowhere/pass'"),
        ('["./key.sh"]', 4, "is a relative path; write the full one"),
        ('"pass show openai"', 2, "is not a list of words"),
        ("[]", 2, "is not a list of words"),
        ('["pass", 1]', 2, "is not a list of words"),
        ('[""]', 2, "is not a list of words"),
        ("7", 2, "is not a list of words"),
    ],
)
def test_what_cannot_be_started_is_named(bare: Shell, value: str, code: int, said: str) -> None:
    (bare.folder / "key.sh").write_text("#!/bin/sh\necho sk-of-the-working-folder\n")
    (bare.folder / "key.sh").chmod(0o755)
    user_config(bare, f"[providers.openai]\napi_key_command = {value}\n")
    done = bare.in_process("run", "Hi")
    assert done.code == code
    assert said in done.err


def test_no_program_or_module_of_the_working_folder_runs(bare: Shell, server: ModelServer) -> None:
    trap = bare.folder / "secretary.py"
    trap.write_text("print('sk-of-the-working-folder')\n")
    tool = bare.folder / "secretary"
    tool.write_text("#!/bin/sh\necho sk-of-the-working-folder\n")
    tool.chmod(0o755)
    user_config(bare, '[providers.openai]\napi_key_command = ["secretary"]\n')
    assert bare.in_process("run", "Hi", PATH=":.:/usr/bin:/bin").code == 4
    user_config(bare, f'[providers.openai]\napi_key_command = ["{sys.executable}", "-m", "secretary"]\n')
    assert bare.in_process("run", "Hi").code == 4
    assert server.requests == []


def test_no_shell_reads_the_words(bare: Shell, server: ModelServer) -> None:
    user_config(bare, '[providers.openai]\napi_key_command = ["echo", "sk-$HOME;`id`"]\n')
    assert bare.in_process("run", "Hi").code == 0
    assert sent_key(server) == "sk-$HOME;`id`"


def test_the_command_can_ask_on_the_terminal(bare: Shell, server: ModelServer) -> None:
    printing(bare, "import sys; print('sk-' + sys.stdin.readline().strip())")
    code, _ = on_terminal(bare, "run", "--no-stdin", "Hi", typed=b"typed\n")
    assert code == 0
    assert sent_key(server) == "sk-typed"


def test_without_a_terminal_the_command_reads_nothing_of_stdin(bare: Shell, server: ModelServer) -> None:
    printing(bare, "import sys; print('sk-' + str(len(sys.stdin.read())))")
    assert bare.in_process("run", stdin=b"the message").code == 0
    assert sent_key(server) == "sk-0"


def project(shell: Shell, text: str) -> None:
    file = shell.folder / "afk.toml"
    file.write_text(text)
    file.chmod(0o644)


def test_a_project_has_no_command_and_no_reference_without_trust(bare: Shell, server: ModelServer) -> None:
    ran = bare.folder / "ran"
    words = [sys.executable, "-c", f"open({str(ran)!r}, 'w').write('x'); print('sk-of-the-project')"]
    project(bare, f"[providers.openai]\napi_key_command = {json.dumps(words)}\nheaders = {{X = '${{HOME}}'}}\n")

    done = bare.in_process("run", "Hi")

    assert done.code == 0
    assert "no effect" in done.err or "trust" in done.err
    assert sent_key(server) != "sk-of-the-project"
    assert "x" not in server.requests[-1].headers
    assert not ran.exists()


def test_a_trusted_project_has_them_until_its_program_changes(bare: Shell, server: ModelServer) -> None:
    script = bare.folder / "key.py"
    script.write_text("print('sk-of-the-project')\n")
    script.chmod(stat.S_IRUSR | stat.S_IWUSR)
    project(bare, f"[providers.openai]\napi_key_command = {json.dumps([sys.executable, str(script)])}\n")
    trust = bare.in_process("trust")
    assert trust.code == 0
    assert "starts a program" in trust.out + trust.err
    assert bare.in_process("run", "Hi").code == 0
    assert sent_key(server) == "sk-of-the-project"

    script.write_text("print('sk-of-somebody-else')\n")
    done = bare.in_process("run", "Hi")
    assert done.code == 4
    assert "has changed since" in done.err
    assert sent_key(server) == "sk-of-the-project"


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("${MINE}", "sk-of-mine"),
        ("a-${MINE}-${OTHER}", "a-sk-of-mine-7"),
        ("$MINE", "$MINE"),
        ("$$", "$$"),
        ("$${MINE}", "${MINE}"),
        ("$$${MINE}", "$${MINE}"),
        ("{MINE}$", "{MINE}$"),
    ],
)
def test_a_reference_in_a_key_is_filled_in(bare: Shell, server: ModelServer, value: str, sent: str) -> None:
    user_config(bare, f"[providers.openai]\napi_key = '{value}'\nheaders = {{X-Key = 'Token {value}'}}\n")
    done = bare.in_process("run", "Hi", MINE="sk-of-mine", OTHER="7")
    assert done.code == 0, done.err
    assert sent_key(server) == sent
    assert server.requests[-1].headers["x-key"] == f"Token {sent}"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("${UNSET}", "refers to the variable UNSET, which is not set; set UNSET"),
        ("Bearer ${UNSET}", "refers to the variable UNSET, which is not set"),
        ("${EMPTY}", "refers to the variable EMPTY, which is empty"),
        ("${MINE:-x}", "its text is not the name of one"),
        ("${}", "its text is not the name of one"),
        ("${MINE", "its text is not the name of one"),
        ("${ MINE }", "its text is not the name of one"),
        ("${env:MINE}", "its text is not the name of one"),
    ],
)
@pytest.mark.parametrize("setting", ["api_key = '{}'", "headers = {{X-Key = '{}'}}"])
def test_a_reference_that_cannot_be_filled_in_is_never_sent(
    bare: Shell, server: ModelServer, setting: str, value: str, said: str
) -> None:
    user_config(bare, "[providers.openai]\n" + setting.format(value) + "\n")
    done = bare.in_process("run", "Hi", MINE="sk-of-mine", EMPTY="")
    assert done.code == 2
    assert said in done.err
    assert "config.toml, line 2" in done.err
    assert server.requests == []


def test_a_variable_that_holds_a_reference_is_never_sent(bare: Shell, server: ModelServer) -> None:
    done = bare.in_process("run", "Hi", OPENAI_API_KEY="${MY_KEY}")
    assert done.code == 2
    assert "OPENAI_API_KEY is a reference to another one (${NAME}), which nothing has filled in" in done.err
    assert server.requests == []


def test_the_value_of_a_reference_is_masked(bare: Shell) -> None:
    user_config(bare, "[providers.openai]\nheaders = {X-Key = 'a ${MY_TOKEN} b'}\n")
    with ModelServer([Step(status=400, body="no canary-token-1 here")]) as server:
        done = bare.in_process("run", "Hi", MY_TOKEN="canary-token-1", OPENAI_BASE_URL=server.base_url)
    assert "no *** here" in done.err
    assert "canary" not in done.err


def test_the_config_is_shown_with_its_references_and_commands_and_without_keys(bare: Shell) -> None:
    user_config(bare, "[providers.openai]\napi_key = 'sk-canary-1234567'\napi_key_command = ['pass', 'show', 'x']\n")
    done = bare.in_process("config", "show")
    assert "canary" not in done.out
    assert "providers.openai.api_key_command" in done.out
    assert "show" in done.out
    bare.in_process("keys", "set", "openai", stdin=b"sk-canary-9876543")
    rows = {row["key"]: row for row in bare.in_process("config", "show", "--json").events}
    assert rows["providers.openai.api_key"]["value"] == "***"
    assert rows["providers.openai.api_key"]["source"].endswith("keys.json")


@pytest.mark.parametrize("end", ["\n", "\r\n", " ", "\n\n"])
def test_the_line_end_of_a_variable_does_not_reach_a_header(bare: Shell, server: ModelServer, end: str) -> None:
    user_config(bare, "[providers.openai]\napi_key = '${MINE}'\nheaders = {X-Key = 'Bearer ${MINE}'}\n")
    done = bare.in_process("run", "Hi", MINE=f"sk-of-mine{end}")
    assert done.code == 0, done.err
    assert sent_key(server) == "sk-of-mine"
    assert server.requests[-1].headers["x-key"] == "Bearer sk-of-mine"


def test_a_variable_with_two_lines_is_refused_without_its_value(bare: Shell, server: ModelServer) -> None:
    user_config(bare, "[providers.openai]\nheaders = {X-Key = 'Bearer ${MINE}'}\n")
    done = bare.in_process("run", "Hi", MINE="canary-of-mine\nX-Other: 1")
    assert done.code == 2
    assert "refers to the variable MINE, which holds control characters" in done.err
    assert "canary" not in done.err
    assert server.requests == []


@pytest.mark.parametrize("end", ["\n", "\r\n", " "])
def test_the_line_end_of_a_key_in_any_place_does_not_reach_a_header(bare: Shell, server: ModelServer, end: str) -> None:
    assert bare.in_process("run", "Hi", OPENAI_API_KEY=f"sk-of-mine{end}").code == 0
    assert sent_key(server) == "sk-of-mine"
    user_config(bare, f"[providers.openai]\napi_key = {json.dumps('sk-of-config' + end)}\n")
    assert bare.in_process("run", "Hi").code == 0
    assert sent_key(server) == "sk-of-config"
