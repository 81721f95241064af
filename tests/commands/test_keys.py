"""`afk keys`: what is kept where, who can read it, and that no key is shown anywhere."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import select
import signal
import stat
import subprocess
import sys
import termios
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from afkcli.testing.model_server import ModelServer, Step
from tests.commands.conftest import Install
from tests.e2e.shell import AFK, LIMIT, Shell
from tests.e2e.warm import start

KEY = "sk-canary-9876543210"


@pytest.fixture
def bare(shell: Shell, server: ModelServer) -> Shell:
    """A shell whose model is the scripted server's, without a key."""
    shell.env.update(OPENAI_BASE_URL=server.base_url, AFK_MODEL="openai/m")
    return shell


def keys_file(shell: Shell) -> Path:
    return shell.home / "afk" / "config" / "keys.json"


def keep(shell: Shell, name: str = "openai", key: str = KEY) -> None:
    done = shell.in_process("keys", "set", name, stdin=key.encode() + b"\n")
    assert done.code == 0, done.err


def user_config(shell: Shell, text: str) -> None:
    path = shell.home / "afk" / "config" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def sent_key(server: ModelServer) -> str:
    return server.requests[-1].headers["authorization"].removeprefix("Bearer ")


def test_a_key_from_stdin_is_kept_for_this_user_alone_and_sent(bare: Shell, server: ModelServer) -> None:
    done = bare.in_process("keys", "set", "openai", stdin=f"{KEY}\n".encode())

    assert (done.code, done.out) == (0, "")
    assert done.err == f"afk: the key for openai is kept in {keys_file(bare)}\n"
    assert stat.S_IMODE(keys_file(bare).stat().st_mode) == 0o600
    assert stat.S_IMODE(keys_file(bare).parent.stat().st_mode) == 0o700
    run = bare.in_process("run", "--json", "Hi")
    assert run.code == 0, run.err
    assert sent_key(server) == KEY
    assert KEY not in run.out + run.err + json.dumps(bare.log())


def test_a_kept_key_names_the_model_of_a_bare_run_and_a_variable_comes_before_it(shell: Shell) -> None:
    keep(shell, "anthropic")
    row = next(row for row in shell.in_process("doctor", "--json").events if row["check"] == "model")
    assert row["detail"].startswith("anthropic/")
    assert "`afk keys` keeps the key 'anthropic'" in row["detail"]

    shell.env["OPENAI_API_KEY"] = "sk-canary-0123456789"
    row = next(row for row in shell.in_process("doctor", "--json").events if row["check"] == "model")
    assert row["detail"].startswith("openai/")


@pytest.mark.parametrize(
    ("given", "noted"),
    [
        (f"{KEY}\r\n".encode(), False),  # `echo key | afk keys set` in cmd.exe
        (b"\xef\xbb\xbf" + f"{KEY}\r\n".encode(), False),  # PowerShell with a byte order mark
        (f"{KEY}\r\n".encode("utf-16"), False),  # an old PowerShell
        (KEY.encode(), False),
        (f"  {KEY}\t \n".encode(), True),
        (f"{KEY} \r\n".encode(), True),
        (f"\n{KEY}\n\n".encode(), True),
    ],
)
def test_what_surrounds_a_key_is_left_out(shell: Shell, given: bytes, noted: bool) -> None:
    done = shell.in_process("keys", "set", "openai", stdin=given)

    assert done.code == 0, done.err
    assert json.loads(keys_file(shell).read_text()) == {"openai": KEY}
    assert ("the blanks around the key were left out" in done.err) == noted


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (b"", "it is empty"),
        (b" \r\n", "it is empty"),
        (b"\xef\xbb\xbf\n", "it is empty"),
        (b"sk-canary-1\nsk-canary-2\n", "more than one line"),
        (b"sk-canary-1\rsk-canary-2", "more than one line"),
        ("sk-canary-1\u2028sk-canary-2".encode(), "more than one line"),
        (b"sk-canary-\x1b[31m1", "control characters"),
        (b"sk-canary-\x001", "control characters"),
        ("sk-canary-schlüssel".encode(), "a character that a key cannot have"),
        (b"${OPENAI_API_KEY}", "the name of a variable"),
        (b"sk-canary-" + b"x" * 100_000, "more than any key"),
        (b"sk-canary-\xff\xfe", "is not text"),
    ],
)
def test_what_is_no_key_is_refused_and_nothing_changes(shell: Shell, given: bytes, why: str) -> None:
    keep(shell)
    before = keys_file(shell).read_bytes()

    done = shell.in_process("keys", "set", "openai", stdin=given)

    assert done.code == 2
    assert why in done.err
    assert done.err.count("\n") == 1
    assert "canary" not in done.err
    assert keys_file(shell).read_bytes() == before


def test_a_key_of_10000_characters_is_kept_and_sent(bare: Shell, server: ModelServer) -> None:
    keep(bare, key="k" * 10_000)
    assert bare.in_process("run", "Hi").code == 0
    assert sent_key(server) == "k" * 10_000


@pytest.mark.parametrize(
    "arguments",
    [
        ("openai", KEY),
        ("openai", f"--key={KEY}"),
        ("openai", "--api-key", KEY),
        (KEY,),
        (f"openai={KEY}",),
        ("gsk_" + "a1" * 20,),
        ("a1b2c3d4e5f6" * 3,),
    ],
)
def test_a_key_as_an_argument_is_refused_with_the_reason_and_the_next_step(
    shell: Shell, arguments: tuple[str, ...]
) -> None:
    done = shell.in_process("keys", "set", *arguments)

    assert done.code == 2
    assert "a key is not taken as an argument: it is now in the shell's history" in done.err
    assert "revoke it" in done.err
    assert not any(argument in done.err for argument in arguments if argument != "openai")
    assert not keys_file(shell).exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("opnai", "did you mean 'openai'?"),
        ("nowhere", "there is no provider 'nowhere'; installed: "),
        ("local", "the plugin provider.local has no key"),
        ("openai.token", "write openai.api_key"),
        ("litellm.headers", "is not a key of the plugin"),
    ],
)
def test_a_name_that_has_no_key_gets_the_nearest(shell: Shell, name: str, said: str) -> None:
    done = shell.in_process("keys", "set", name, stdin=b"sk-canary-1\n")
    assert done.code == 2
    if name.startswith("litellm") and "not installed" in done.err:
        return
    assert said in done.err


@pytest.mark.parametrize("name", ["openai", "openai.api_key", "providers.openai", "OPENAI_API_KEY"])
def test_a_key_has_one_name_however_it_is_called(shell: Shell, name: str) -> None:
    keep(shell, name)
    assert json.loads(keys_file(shell).read_text()) == {"openai": KEY}
    assert shell.in_process("keys", "rm", name).code == 0
    assert json.loads(keys_file(shell).read_text()) == {}


def test_the_headers_of_a_sink_can_be_kept_too(shell: Shell) -> None:
    keep(shell, "sinks.otel.headers", "authorization=abc123456")
    assert json.loads(keys_file(shell).read_text()) == {"sinks.otel.headers": "authorization=abc123456"}


def test_the_list_says_where_each_key_comes_from_and_shows_none(shell: Shell) -> None:
    keep(shell)
    keep(shell, "anthropic")
    user_config(
        shell,
        f"[providers.anthropic]\napi_key = '{KEY}1'\n[providers.groq]\napi_key = '${{GROQ}}'\n"
        "[providers.azure]\napi_key_command = ['pass', 'show', 'azure']\n",
    )
    shell.env["OPENAI_API_KEY"] = "sk-canary-0123456789"

    done = shell.in_process("keys", "list", "--json")

    assert "canary" not in done.out + done.err
    assert [(row["name"], row["source"], row["where"], row["used"]) for row in done.events] == [
        ("openai", "environment", "OPENAI_API_KEY", True),
        ("openai", "keys file", "the key 'openai' of the keys file", False),
        ("anthropic", "keys file", "the key 'anthropic' of the keys file", True),
        ("anthropic", "config", "api_key under [providers.anthropic]", False),
        ("groq", "config", "api_key under [providers.groq] (from GROQ)", True),
        ("azure", "command", "api_key_command under [providers.azure] (pass)", True),
    ]
    assert "***" in shell.in_process("keys", "list").out


def test_doctor_says_where_each_key_comes_from(shell: Shell) -> None:
    keep(shell)
    user_config(shell, f"[providers.openai]\napi_key = '{KEY}1'\napi_key_command = ['pass', 'show']\n")
    row = next(row for row in shell.in_process("doctor", "--json").events if row["check"] == "keys")
    assert row["detail"] == (
        "the key 'openai' of the keys file is set (***), and replaces api_key under [providers.openai] "
        "and api_key_command under [providers.openai] (pass)"
    )


def test_the_path_is_printed_whether_the_file_is_there_or_not(shell: Shell) -> None:
    assert shell.in_process("keys", "path").out == f"{keys_file(shell)}\n"
    assert shell.in_process("keys", "list").err == "afk: there is no key; `afk keys set openai` keeps one\n"


def test_a_key_that_is_not_there_cannot_be_deleted(shell: Shell) -> None:
    keep(shell)
    assert "did you mean 'openai'?" in shell.in_process("keys", "rm", "opena").err
    done = shell.in_process("keys", "rm", KEY)
    assert done.code == 2
    assert KEY not in done.err


def test_the_key_of_a_plugin_that_is_gone_can_be_deleted(shell: Shell) -> None:
    keep(shell)
    keys_file(shell).write_text(json.dumps({"gone": KEY}))
    assert shell.in_process("keys", "rm", "gone").code == 0
    assert json.loads(keys_file(shell).read_text()) == {}


def test_a_key_that_a_variable_hides_gets_a_line(shell: Shell) -> None:
    shell.env["OPENAI_API_KEY"] = "sk-canary-0123456789"
    done = shell.in_process("keys", "set", "openai", stdin=KEY.encode())
    assert "OPENAI_API_KEY is set and comes before it; unset OPENAI_API_KEY to use the kept key" in done.err


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_file_that_others_can_read_is_refused_with_the_command_that_mends_it(bare: Shell, mode: int) -> None:
    keep(bare)
    keys_file(bare).chmod(mode)

    for arguments in (("run", "Hi"), ("keys", "list"), ("keys", "rm", "openai")):
        done = bare.in_process(*arguments)
        assert done.code == 2
        assert done.err.endswith(f"others than you can read or change it; mend it with: chmod 600 {keys_file(bare)}\n")
        assert KEY not in done.err
    subprocess.run(["chmod", "600", keys_file(bare)], check=True)
    assert bare.in_process("run", "Hi").code == 0


def test_a_link_is_refused_with_the_command_that_mends_it(bare: Shell, tmp_path: Path) -> None:
    keep(bare)
    elsewhere = tmp_path / "else where.json"
    keys_file(bare).rename(elsewhere)
    keys_file(bare).symlink_to(elsewhere)

    done = bare.in_process("run", "Hi")

    assert done.code == 2
    assert "it is a link; mend it with: " in done.err
    command = done.err.strip().rpartition("mend it with: ")[2]
    subprocess.run(["sh", "-c", command], check=True)
    assert bare.in_process("run", "Hi").code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_file_of_another_user_is_refused_with_the_command_that_mends_it(bare: Shell) -> None:
    keep(bare)
    os.chown(keys_file(bare), 12345, 12345)

    done = bare.in_process("run", "Hi")

    assert done.code == 2
    assert f"another user owns it; make it yours with: chown {os.geteuid()} {keys_file(bare)}" in done.err


@pytest.mark.parametrize("content", ["{", "[]", '{"openai": 1}', "openai = 'x'", "\x00"])
def test_a_damaged_file_is_named_and_left_as_it_is(bare: Shell, content: str) -> None:
    keep(bare)
    keys_file(bare).write_text(content)

    done = bare.in_process("keys", "set", "anthropic", stdin=b"sk-canary-1\n")

    assert done.code == 2
    assert f"the keys file {keys_file(bare)} is damaged" in done.err
    assert keys_file(bare).read_text() == content


def test_a_run_whose_key_is_in_the_environment_does_not_look_at_the_keys_file(bare: Shell) -> None:
    keep(bare)
    keys_file(bare).chmod(0o644)
    assert bare.in_process("run", "Hi", OPENAI_API_KEY="sk-canary-0123456789").code == 0


def test_writers_at_the_same_time_lose_no_key(bare: Shell) -> None:
    names = ["openai", "anthropic", "sinks.otel.headers"] * 4
    with ThreadPoolExecutor(len(names)) as pool:
        done = list(pool.map(lambda item: bare.afk("keys", "set", item[1], stdin=b"k-%d" % item[0]), enumerate(names)))
    assert [item.code for item in done] == [0] * len(names), [item.err for item in done]
    assert set(json.loads(keys_file(bare).read_text())) == set(names)


def test_a_writer_that_is_killed_leaves_the_old_keys_and_its_rest_goes_with_the_next_write(bare: Shell) -> None:
    keep(bare)
    rest = keys_file(bare).with_name("keys.json.4711-abcdef01.new")
    rest.write_text('{"openai": "sk-canary-half')  # what a killed `replace_file` leaves
    process = bare.start("keys", "set", "anthropic", stdin=subprocess.PIPE)
    process.kill()
    process.communicate(timeout=LIMIT)

    assert bare.in_process("run", "Hi").code == 0
    keep(bare, "anthropic")
    assert not rest.exists()
    assert set(json.loads(keys_file(bare).read_text())) == {"openai", "anthropic"}


def test_kills_at_any_moment_leave_a_whole_file(bare: Shell) -> None:
    keep(bare)
    for number in range(6):
        process = bare.start("keys", "set", "anthropic", stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(b"k" * 5000)
        process.stdin.close()
        lock = keys_file(bare).with_name("keys.lock")
        time.sleep(0.01 * number)  # another moment each time; nothing depends on which
        process.send_signal(signal.SIGKILL)
        process.wait(LIMIT)
        assert lock.exists()
        assert json.loads(keys_file(bare).read_text())["openai"] == KEY
    keep(bare, "anthropic")  # no lock is left behind


def test_a_disk_that_takes_nothing_leaves_the_old_keys(bare: Shell) -> None:
    keep(bare)
    before = keys_file(bare).read_bytes()
    done = subprocess.run(
        [AFK, "keys", "set", "anthropic"],
        input=b"k" * 20_000,
        env=bare.environment(),
        cwd=bare.folder,
        capture_output=True,
        timeout=LIMIT,
        preexec_fn=lambda: (
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
        ),
    )
    assert done.returncode == 2, done.stderr
    assert b"cannot be written: File too large; nothing was changed" in done.stderr
    assert keys_file(bare).read_bytes() == before
    assert [path.name for path in keys_file(bare).parent.iterdir() if path.name.endswith(".new")] == []


def test_a_second_writer_that_waits_too_long_says_so(bare: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    from afkcli.host import keys

    keep(bare)
    monkeypatch.setattr(keys, "_LOCK_SECONDS", 0.1)
    with keys_file(bare).with_name("keys.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = bare.in_process("keys", "set", "anthropic", stdin=b"sk-canary-1")
    assert done.code == 2
    assert "another process is changing the keys file" in done.err


class Terminal:
    """`afk` on a pseudo-terminal: what it got, and its process."""

    def __init__(self, shell: Shell, *arguments: str) -> None:
        self.main, side = pty.openpty()
        self.side = os.dup(side)
        self.seen = b""
        self.process = start(
            [AFK, *arguments],
            cwd=shell.folder,
            env=shell.environment(TERM="xterm"),
            stdin=side,
            stdout=side,
            stderr=side,
            start_new_session=True,
        )
        os.close(side)

    def until(self, text: bytes) -> None:
        while text not in self.seen:
            assert select.select([self.main], [], [], LIMIT)[0], self.seen
            self.seen += os.read(self.main, 65536)

    def type(self, text: bytes) -> None:
        while text:
            text = text[os.write(self.main, text[:1024]) :]

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.side)[3] & termios.ECHO)

    def end(self) -> int:
        code = self.process.wait(LIMIT)
        while select.select([self.main], [], [], 0)[0]:
            self.seen += os.read(self.main, 65536)
        os.close(self.main)
        os.close(self.side)
        return code


PROMPT = b"Key for openai (it is not shown): "


def test_on_a_terminal_the_key_is_asked_for_and_never_shown(shell: Shell) -> None:
    terminal = Terminal(shell, "keys", "set", "openai")
    terminal.until(PROMPT)
    assert not terminal.echoes()
    terminal.type(b"wrong\x15" + KEY.encode() + b"x\x7f")  # Ctrl-U, and a key too much that is erased
    command = Path(f"/proc/{terminal.process.pid}/cmdline")
    if command.exists():
        assert KEY.encode() not in command.read_bytes()
    terminal.type(b"\r")

    assert terminal.end() == 0
    assert b"canary" not in terminal.seen
    assert json.loads(keys_file(shell).read_text()) == {"openai": KEY}
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "keys.md").read_text()
    for line in terminal.seen.decode().replace(str(keys_file(shell)), "/home/me/.config/afk/keys.json").splitlines():
        assert re.sub(r"\x1b\[\d*m", "", line).strip() in page


def test_a_pasted_key_of_10000_characters_is_taken_whole(shell: Shell) -> None:
    terminal = Terminal(shell, "keys", "set", "openai")
    terminal.until(PROMPT)
    terminal.type(b"k" * 10_000 + b"\n")
    assert terminal.end() == 0
    assert json.loads(keys_file(shell).read_text()) == {"openai": "k" * 10_000}


def test_two_pasted_lines_are_refused_and_the_second_does_not_reach_the_shell(shell: Shell) -> None:
    terminal = Terminal(shell, "keys", "set", "openai")
    terminal.until(PROMPT)
    terminal.type(b"sk-canary-1\rsk-canary-2\r")
    terminal.until(b"more than one line was pasted")
    assert terminal.process.wait(LIMIT) == 2
    os.set_blocking(terminal.side, False)
    with pytest.raises(BlockingIOError):
        os.read(terminal.side, 100)  # nothing is left for whoever reads the terminal next
    terminal.end()
    assert b"canary" not in terminal.seen
    assert not keys_file(shell).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_prompt_that_is_stopped_gives_the_terminal_its_echo_back(shell: Shell, number: signal.Signals) -> None:
    terminal = Terminal(shell, "keys", "set", "openai")
    terminal.until(PROMPT)
    assert not terminal.echoes()
    terminal.process.send_signal(number)
    assert terminal.process.wait(LIMIT) in (-number, 128 + number)
    assert terminal.echoes()
    terminal.end()
    assert not keys_file(shell).exists()


PLUGIN = """
from dataclasses import dataclass, field
from afkcli.plugin import hookimpl, BaseProvider

AFK_HOOKS = 1


@dataclass
class Settings:
    token: str = field(default="", metadata={"secret": True, "env": "GREY_TOKEN"})
    salt: str = field(default="", metadata={"secret": True})


class Grey(BaseProvider):
    name = "grey"
    default_model = "m"

    def __init__(self, settings):
        self.settings = settings

    async def stream(self, request):
        raise RuntimeError(self.settings.token[::-1] + " " + self.settings.salt[::-1])
        yield


@hookimpl
def afk_provider(settings: Settings):
    return Grey(settings)
"""


def test_a_plugin_author_marks_a_setting_as_secret_and_gets_all_of_it(shell: Shell, install: Install) -> None:
    install("grey", {"afk": {"provider.grey": "grey"}}, grey=PLUGIN)
    done = shell.afk("keys", "set", "grey", stdin=b"abcdefgh\n")
    assert done.code == 2
    assert "write grey.token or grey.salt" in done.err
    for name, key in (("grey.token", b"secret-token-1\n"), ("grey.salt", b"secret-salt-22\n")):
        assert shell.afk("keys", "set", name, stdin=key).code == 0

    run = shell.afk("run", "-m", "grey", "Hi")

    assert "1-nekot-terces 22-tlas-terces" in run.err
    rows = shell.afk("keys", "list", "--json").events
    assert [(row["name"], row["source"]) for row in rows] == [("grey.token", "keys file"), ("grey.salt", "keys file")]


def test_missing_keys_name_the_command_as_the_next_step(shell: Shell) -> None:
    for provider in ("openai", "anthropic"):
        done = shell.in_process("run", "-m", f"{provider}/m", "Hi")
        assert done.code == 2
        assert f"run `afk keys set {provider}`" in done.err


def test_a_refused_key_names_where_it_came_from(bare: Shell) -> None:
    def run(shell: Shell, **env: str) -> str:
        with ModelServer([Step(status=401)]) as server:
            done = shell.in_process("run", "Hi", OPENAI_BASE_URL=server.base_url, **env)
        assert done.code == 4
        return done.err

    keep(bare)
    assert "check the key that `afk keys set openai` keeps" in run(bare)
    assert "check OPENAI_API_KEY" in run(bare, OPENAI_API_KEY="sk-canary-0123456789")


def test_nothing_that_afk_writes_has_the_key(bare: Shell, server: ModelServer) -> None:
    keep(bare)
    with ModelServer([Step(status=500, body=f"the key {KEY} is odd")]) as odd:
        done = bare.in_process("run", "--debug", "Hi", OPENAI_BASE_URL=odd.base_url, AFK_MODEL="openai/m")
    assert "the key *** is odd" in done.err
    files = [path for path in bare.home.rglob("*") if path.is_file() and path != keys_file(bare)]
    assert KEY not in done.out + done.err
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_no_module_is_imported_for_a_key_that_is_in_the_environment(bare: Shell) -> None:
    code = (
        "import sys; from afkcli.cli import run; from afkcli.host.invocation import Invocation\n"
        "run(Invocation.of_process()); print(*sorted(sys.modules), file=sys.stderr)"
    )

    def imported(**env: str) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-c", code, "run", "Hi"],
            env=bare.environment(**env),
            cwd=bare.folder,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=True,
        )
        return set(done.stderr.split())

    of_keys = {
        "afkcli.host.keys",
        "afkcli.host.key_command",
        "afkcli.loading.secret_sources",
        "afkcli.loading.secret_settings",
        "afkcli.core.contract.references",
        "afkcli.wiring.key_commands",
        "afkcli.wiring.key_origins",
    }
    assert not imported(OPENAI_API_KEY="sk-canary-0123456789") & of_keys
    keep(bare)
    assert "afkcli.host.keys" in imported()
