"""No key that afk was given is in anything that it writes, whatever place it came from and however a call fails."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from afkcli.testing.model_script import Fault, ScriptedCall, Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import AFK, LIMIT, Finished, Shell
from tests.safety.canary import assert_nowhere, write_config

KEY = "canary-4711-0815-abcdef"
PLUGIN = """
import os
from dataclasses import dataclass, field
from afkcli import hookimpl
from afkcli.plugin import BaseProvider
AFK_HOOKS = 1
if os.environ.get("MINE_FAILS") == "import":
    raise RuntimeError(f"no use for {os.environ['OPENAI_API_KEY']}")

@dataclass
class Settings:
    token: str = field(default="", metadata={"secret": True, "env": "MINE_TOKEN"})
    server: str = ""

class Mine(BaseProvider):
    name = "mine"
    default_model = "m"
    def __init__(self, settings):
        self.token = settings.token
    def emit(self, event):
        raise RuntimeError(f"refused {self.token}")
    async def stream(self, request):
        raise RuntimeError(f"refused {self.token}")
        yield
    def close(self):
        pass

@hookimpl
def afk_%s(settings: Settings):
    if os.environ.get("MINE_FAILS") == "factory":
        raise RuntimeError(f"refused {settings.token}")
    return Mine(settings)
"""


@dataclass
class Given:
    """A key and where it came from: `sent` is what the server is sent of it, `options` what a run is to be given."""

    sent: str
    canaries: tuple[str, ...] = (KEY,)
    options: tuple[str, ...] = ("-m", "openai/m")


Source = Callable[[Shell, ModelServer], Given]


def openai_key(shell: Shell, server: ModelServer) -> Given:
    shell.env.update(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=server.base_url)
    return Given(sent=KEY)


def openai_key_with_a_line_end(shell: Shell, server: ModelServer) -> Given:
    shell.env.update(OPENAI_API_KEY=f" {KEY}\r\n", OPENAI_BASE_URL=server.base_url)
    return Given(sent=KEY)


def anthropic_key(shell: Shell, server: ModelServer) -> Given:
    shell.env.update(ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=server.base_url)
    return Given(sent=KEY, options=("-m", "anthropic/m"))


def config_key(shell: Shell, server: ModelServer) -> Given:
    write_config(shell, f'[providers.openai]\napi_key = "{KEY}"\nbase_url = "{server.base_url}"\n')
    return Given(sent=KEY)


def user_info_in_the_environment(shell: Shell, server: ModelServer) -> Given:
    shell.env.update(OPENAI_BASE_URL=server.base_url.replace("://", f"://someone:{KEY}@"))
    pair = base64.b64encode(f"someone:{KEY}".encode()).decode()
    return Given(sent=pair, canaries=(KEY, pair))


def quoted_user_info_in_the_config(shell: Shell, server: ModelServer) -> Given:
    url = server.base_url.replace("://", f"://someone:{KEY}%40x@")
    write_config(shell, f'[providers.openai]\nbase_url = "{url}"\n')
    pair = base64.b64encode(f"someone:{KEY}@x".encode()).decode()
    return Given(sent=pair, canaries=(f"{KEY}@x", f"{KEY}%40x", pair))


def header_of_the_config(shell: Shell, server: ModelServer) -> Given:
    write_config(
        shell,
        f'[providers.openai]\nbase_url = "{server.base_url}"\n[providers.openai.headers]\nX-Gate = "Token {KEY}"\n',
    )
    return Given(sent=KEY)


SOURCES: list[Source] = [
    openai_key,
    openai_key_with_a_line_end,
    anthropic_key,
    config_key,
    user_info_in_the_environment,
    quoted_user_info_in_the_config,
    header_of_the_config,
]
BAD_URLS = [
    f"ftp://someone:{KEY}@host/v1",
    f"http://someone:{KEY}@[bad/v1",
    f"http://someone:{KEY}@host:port/v1",
    f"http://someone:a/{KEY}@host/v1",
    f"http://someone:a@{KEY}@host:port/v1",
    f"//someone:{KEY}@host",
    f"someone:{KEY}@host",
]
NO_WAIT = {"Retry-After": "0"}


def echo(status: int, text: str) -> Step:
    """Return an answer that repeats what it was sent, once whole and once where a line is cut to its length."""
    return Step(status=status, headers=NO_WAIT, body={"error": {"message": f"you sent {text} {'.' * 260}{text}"}})


class TestAServerThatRepeatsTheKey:
    @pytest.mark.parametrize("source", SOURCES)
    def test_a_run_writes_it_nowhere(self, source: Source, shell: Shell, server: ModelServer) -> None:
        given = source(shell, server)
        text = given.canaries[0]
        server.script(
            echo(401, text),
            echo(401, given.sent),
            echo(500, text),
            Step(text="ok"),
            Step(fault=Fault.ERROR_EVENT, body={"message": f"you sent {text}", "type": "server_error", "code": "bad"}),
        )
        run = ("run", "-t", "t", *given.options)
        said = [
            shell.afk(*run, "--debug", "refused"),
            shell.afk(*run, "--json", "refused"),
            shell.afk(*run, "failing"),
            shell.afk(*run, "--debug", "--timeout", "1", "broken"),
        ]

        assert [done.code for done in said[:3]] == [4, 4, 0], [done.err for done in said]
        assert said[3].code in (3, 4)
        assert all(given.sent in str(request.headers) for request in server.requests)
        assert_nowhere(shell, given.canaries, said)

    @pytest.mark.parametrize("source", [config_key, quoted_user_info_in_the_config, header_of_the_config])
    def test_no_other_command_writes_it(self, source: Source, shell: Shell, server: ModelServer) -> None:
        given = source(shell, server)
        server.script(echo(401, given.canaries[0]), Step(text="ok"))
        (shell.home / "afk" / "data").parent.mkdir(exist_ok=True)
        (shell.home / "afk" / "data").write_text("a file where the folder should be")
        said = [shell.afk("run", "-t", "t", *given.options, "rescued"), shell.afk("doctor")]
        assert "it is kept in" in said[0].err
        (shell.home / "afk" / "data").unlink()
        said += [shell.afk("run", "-t", "t", *given.options, "hi")]
        commands = (
            ("config", "show"),
            ("config", "show", "--json"),
            ("doctor",),
            ("plugins",),
            ("threads", "show", "t", "--json"),
            ("threads", "export", "--all", "-o", "all.jsonl"),
            ("threads", "export", "t", "--format", "markdown", "-o", "t.md"),
            ("events", "tail", "-n", "99", "--json"),
        )
        said += [shell.afk(*command) for command in commands]

        assert_nowhere(shell, given.canaries, said)


@pytest.mark.parametrize(
    "spelt",
    [
        "".join(f"%{byte:02x}" for byte in KEY.encode()),
        "".join(f"\\u{ord(char):04x}" for char in KEY),
        "".join(f"&#x{ord(char):x};" for char in KEY),
        base64.b64encode(f"a:{KEY}".encode()).decode(),
        f"{KEY[:10]}\x1b[31m{KEY[10:]}",
        KEY[:-4],
    ],
    ids=["URL", "JSON", "HTML", "base64", "coloured", "cut"],
)
def test_a_server_that_spells_the_key_in_another_way_reveals_nothing(
    spelt: str, shell: Shell, server: ModelServer
) -> None:
    openai_key(shell, server)
    server.script(
        echo(401, spelt),
        Step(status=401, headers=NO_WAIT, body=f"you sent {spelt}"),
        Step(fault=Fault.ERROR_EVENT, body={"message": f"you sent {spelt}", "type": "server_error", "code": "bad"}),
    )
    run = ("run", "-t", "t", "-m", "openai/m", "--debug", "hi")

    said = [shell.afk(*run), shell.afk(*run), shell.afk(*run, "--timeout", "2")]

    assert all("you sent" in done.err for done in said[:2]), said
    assert_nowhere(shell, (KEY, KEY[:16], spelt, json.dumps(spelt)[1:-1]), said)


@pytest.mark.parametrize("source", [anthropic_key, quoted_user_info_in_the_config])
def test_an_unreachable_server_reveals_no_key(source: Source, shell: Shell) -> None:
    with ModelServer() as server:
        given = source(shell, server)

    done = shell.afk("run", "-t", "t", *given.options, "--debug", "--timeout", "1", "hi")

    assert done.code in (3, 4)
    assert_nowhere(shell, given.canaries, [done])


@pytest.mark.parametrize(
    ("variable", "urls"),
    [("OPENAI_BASE_URL", BAD_URLS), ("ANTHROPIC_BASE_URL", BAD_URLS[:1]), (None, BAD_URLS[-3:])],
)
def test_an_invalid_address_reveals_no_key(variable: str | None, urls: list[str], shell: Shell) -> None:
    model = "anthropic/m" if variable == "ANTHROPIC_BASE_URL" else "openai/m"
    for url in urls:
        if variable is None:
            write_config(shell, f'[providers.openai]\nbase_url = "{url}"\n')
        else:
            shell.env[variable] = url

        said = [shell.afk("run", "-t", "t", "-m", model, "--debug", "hi"), shell.afk("config", "show")]

        assert (said[0].code, "base_url" in said[0].err) == (2, True)
        assert_nowhere(shell, (KEY,), said)
    assert_nowhere(shell, (KEY,), [shell.afk("doctor", AFK_MODEL=model)])


class TestAPlugin:
    """A plugin in one file whose errors contain its key."""

    def commands(self, shell: Shell, kind: str) -> list[Finished]:
        path = shell.folder / "mine.py"
        path.write_text(PLUGIN % kind)
        write_config(shell, f'[plugins]\npaths = ["{path}"]\n[{kind}s.mine]\ntoken = "{KEY}"\nserver = "x"\n')
        chosen = ("-m", "mine/m") if kind == "provider" else ()
        return [
            shell.afk("run", "-t", "t", *chosen, "--plugin", str(path), "--debug", "hi"),
            shell.afk("run", "-t", "t", *chosen, "--plugin", str(path), "--json", "hi"),
            shell.afk("config", "show"),
            shell.afk("doctor"),
        ]

    @pytest.mark.parametrize("kind", ["provider", "sink"])
    @pytest.mark.parametrize("fails", ["factory", "call"])
    def test_an_error_of_a_plugin_hides_its_secret(self, keyed: Shell, kind: str, fails: str) -> None:
        keyed.env["MINE_FAILS"] = fails

        said = self.commands(keyed, kind)

        assert "refused ***" in said[0].err
        assert_nowhere(keyed, (KEY,), said)

    @pytest.mark.parametrize("kind", ["sink"])
    def test_an_error_of_a_plugin_hides_its_secret_from_the_environment(self, keyed: Shell, kind: str) -> None:
        keyed.env["MINE_TOKEN"] = other = "another-canary-0815"

        said = self.commands(keyed, kind)

        assert "refused ***" in said[0].err
        assert_nowhere(keyed, (KEY, other), said)

    def test_an_error_at_import_hides_another_plugins_key(self, keyed: Shell) -> None:
        keyed.env.update(MINE_FAILS="import", OPENAI_API_KEY=KEY)

        said = [*self.commands(keyed, "sink"), keyed.afk("plugins")]

        assert "no use for ***" in said[0].err
        assert "no use for ***" in said[-1].out
        assert_nowhere(keyed, (KEY,), said)


def test_an_error_of_a_tool_hides_a_key(keyed: Shell, server: ModelServer) -> None:
    """The result of a tool is part of the conversation; the message of its exception is an error."""
    keyed.env["OPENAI_API_KEY"] = KEY
    script = keyed.folder / "tools.py"
    script.write_text(
        "import os\nfrom afkcli import Agent, Runner, tool\n"
        "@tool\ndef fetch() -> str:\n    'Fetch.'\n    raise RuntimeError('refused ' + os.environ['OPENAI_API_KEY'])\n"
        "print(Runner().run_sync(Agent(model='gpt-5.2-mini', tools=[fetch]), user_message='go', thread_id='t').state)\n"
    )
    server.script(Step(tool_calls=[ScriptedCall(name="fetch")]), Step(text="ok"))

    done = keyed.python(script)

    assert (done.code, done.out) == (0, "completed\n"), done.err
    assert "refused ***" in str(server.bodies[1])
    assert_nowhere(keyed, (KEY,), [done])


def test_no_child_process_has_a_key_among_its_arguments(shell: Shell, tmp_path: Path) -> None:
    """`plugins` and `doctor` ask each module in a child; every Python that starts notes its arguments."""
    spy = tmp_path / "spy" / "sitecustomize.py"
    spy.parent.mkdir()
    spy.write_text(
        f"import os, sys\nwith open({str(tmp_path / 'arguments')!r}, 'ab') as file:\n"
        "    file.write(open('/proc/self/cmdline', 'rb').read() + b'\\n')\n"
    )
    shell.env.update(OPENAI_API_KEY=KEY, PYTHONPATH=str(spy.parent))
    write_config(shell, f'[providers.anthropic]\napi_key = "{KEY}"\n')

    for command in (["plugins"], ["doctor"]):
        subprocess.run(
            [AFK, *command], cwd=shell.folder, env=shell.environment(), capture_output=True, timeout=LIMIT, check=True
        )

    seen = (tmp_path / "arguments").read_bytes()
    assert seen.count(b"\n") > 2
    assert b"plugin_check" in seen
    assert KEY.encode() not in seen


def test_a_refused_connection_reveals_no_key(keyed: Shell) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://someone:{KEY}@127.0.0.1:{taken.getsockname()[1]}/v1"

    done = keyed.afk("run", "-t", "t", "--timeout", "1", "--debug", "hi", OPENAI_BASE_URL=url)

    assert "refused the connection" in done.err or "max_wall_time_s" in done.err
    assert_nowhere(keyed, (KEY, os.fsdecode(base64.b64encode(f"someone:{KEY}".encode()))), [done])
