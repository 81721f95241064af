"""Plugins whose hook returns what does not fit: named in one line; a sink is left out, all others end with code 2."""

from __future__ import annotations

import pytest

from tests.e2e.shell import Shell

HEAD = """
from afkcli import MemoryStore, hookimpl
from afkcli.plugin import BaseProvider

AFK_HOOKS = 1

async def later(): ...

class Sink:
    name = "odd"
    def emit(self, event): ...
    def close(self): ...

class NamelessSink:
    def emit(self, event): ...
    def close(self): ...

class FailingSink(Sink):
    @property
    def name(self): raise ValueError("no name yet")

class Provider(BaseProvider):
    name = "odd"
    async def stream(self, request):
        return
        yield

class NoClose(Provider):
    aclose = None

class NoCapabilities(Provider):
    def capabilities(self, model): return None

class FailingCapabilities(Provider):
    def capabilities(self, model): raise KeyError(model)

class Store(MemoryStore):
    find = None
"""


def plugin(shell: Shell, kind: str, returned: str) -> str:
    path = shell.folder.parent / "odd.py"
    path.write_text(f"{HEAD}\n@hookimpl\ndef afk_{kind}():\n    return {returned}\n")
    return str(path)


def line_of(err: str, said: str) -> str:
    """Return the one line of stderr that is about the plugin."""
    (line,) = [line for line in err.splitlines() if "odd" in line]
    assert said in line
    return line


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("42", "the plugin sink.odd did not return a sink: 42 (int) has no `name`, `emit`, `close`"),
        ("None", "the plugin sink.odd did not return a sink: its hook returned None"),
        ("later()", "its hook returned a coroutine; write the hook without `async`"),
        ("Sink", "its hook returned the class Sink; return an instance of it"),
        ("NamelessSink()", "an object of type NamelessSink has no `name`"),
        ("FailingSink()", "its `name` raised ValueError: no name yet"),
    ],
)
def test_a_sink_that_does_not_fit_is_left_out_and_the_run_answers(keyed: Shell, returned: str, said: str) -> None:
    done = keyed.afk("run", "--plugin", plugin(keyed, "sink", returned), "hi")

    assert (done.code, done.out) == (0, "reply 1: hi\n")
    assert line_of(done.err, said).startswith("afk: the sink 'odd' is left out: ")
    assert "RuntimeWarning" not in done.err


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("42", "42 (int) has no `name`, `default_model`, `stream`"),
        ("None", "its hook returned None"),
        ("later()", "its hook returned a coroutine"),
        ("Provider", "its hook returned the class Provider"),
        ("NoClose()", "its `aclose` is not a method"),
    ],
)
def test_a_provider_that_does_not_fit_is_refused(keyed: Shell, returned: str, said: str) -> None:
    done = keyed.afk("run", "-m", "odd/m", "-t", "t", "--plugin", plugin(keyed, "provider", returned), "hi")

    assert (done.code, done.out) == (2, "")
    assert line_of(done.err, said).startswith("afk: the plugin provider.odd did not return a provider: ")
    assert keyed.afk("threads", "show", "t").code == 2  # no thread was made


@pytest.mark.parametrize(
    ("returned", "code", "said"),
    [
        ("NoCapabilities()", 2, "the capabilities of odd/m are of the type NoneType, not Capabilities"),
        ("FailingCapabilities()", 1, "the provider 'odd' failed: KeyError: 'm'"),
    ],
)
def test_capabilities_that_do_not_fit_are_named(keyed: Shell, returned: str, code: int, said: str) -> None:
    done = keyed.afk("run", "-m", "odd/m", "--plugin", plugin(keyed, "provider", returned), "hi")

    assert (done.code, done.out) == (code, "")
    line_of(done.err, said)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("42", "42 (int) has no `acquire`, `holder`"),
        ("None", "its hook returned None"),
        ("later()", "its hook returned a coroutine"),
        ("Store", "its hook returned the class Store"),
        ("Store()", "its `find` is not a method"),
    ],
)
def test_a_store_that_does_not_fit_is_refused(keyed: Shell, returned: str, said: str) -> None:
    done = keyed.afk("run", "--plugin", plugin(keyed, "store", returned), "hi", AFK_STORE="odd")

    assert (done.code, done.out) == (2, "")
    assert line_of(done.err, said).startswith("afk: the plugin store.odd did not return a store: ")


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("42", "42 (int) is neither a list of tools nor a Toolset (with `list_tools`)"),
        ("None", "its hook returned None"),
        ("later()", "its hook returned a coroutine"),
        ("[later]", "item 1 of its tools is an object of type function, not a Tool; make it a tool with @tool"),
    ],
)
def test_tools_that_do_not_fit_are_refused(keyed: Shell, returned: str, said: str) -> None:
    file = plugin(keyed, "tools", returned)

    done = keyed.afk("run", "--tool", "odd.x", "--plugin", file, "hi")
    listed = keyed.afk("tools", "--plugin", file)

    assert (done.code, done.out) == (2, "")
    assert line_of(done.err, said).startswith("afk: the plugin tools.odd did not return tools: ")
    assert f"the tools of odd are left out: the plugin tools.odd did not return tools: {said}" in listed.err


def test_a_command_that_does_not_fit_is_refused(shell: Shell) -> None:
    site = shell.folder.parent / "site"
    info = site / "odd-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[afk]\ncommand.odd = odd_command\n")
    (site / "odd_command.py").write_text(f"{HEAD}\n@hookimpl\ndef afk_command():\n    return 42\n")

    done = shell.afk("odd", PYTHONPATH=str(site))

    assert (done.code, done.out) == (2, "")
    assert done.err == "afk: the plugin command.odd did not return a command: 42 (int) is not a click.Command\n"


def test_a_setting_that_cannot_be_filled_is_refused_and_listed(keyed: Shell) -> None:
    path = keyed.folder.parent / "odd.py"
    path.write_text(
        f"{HEAD}\nfrom dataclasses import dataclass\n@dataclass\nclass Settings:\n    data: bytes = b''\n"
        "@hookimpl\ndef afk_provider(settings: Settings):\n    return Provider()\n"
    )
    said = "the setting 'data' has the unsupported type bytes; supported: str, int, float, bool"

    done = keyed.afk("run", "-m", "odd/m", "--plugin", str(path), "hi")
    listed = keyed.afk("plugins", "--plugin", str(path))

    assert (done.code, done.out) == (2, "")
    assert f"the plugin provider.odd: {said}" in done.err
    assert f"broken: {said}" in listed.out
