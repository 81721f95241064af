"""A plugin whose `close` never ends holds up neither the answer nor the end of the process."""

from __future__ import annotations

import pytest

from tests.e2e.shell import Shell

PLUGIN = """
import asyncio, threading
from afkcli.core.contract import tasks
from afkcli.core.run import runner, sink_worker
from afkcli.plugin import *
from afkcli import MemoryStore, hookimpl

AFK_HOOKS = 1
tasks.CLOSE_SECONDS = runner.STORE_CLOSE_SECONDS = sink_worker.FLUSH_SECONDS = 0.2  # so that the test takes no longer

async def waits():
    await asyncio.Event().wait()

async def ignores():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

def blocks():
    threading.Event().wait()

class Sink:
    name = "stuck"
    def emit(self, event): pass
    def close(self): {sink}

class Provider(BaseProvider):
    name, default_model = "stuck", "m"
    async def stream(self, request):
        yield TextDelta("fine")
        yield ModelResponse(text_message(Role.ASSISTANT, "fine"), FinishReason.STOP)
    async def aclose(self): {provider}

class Store(MemoryStore):
    def close(self): {store}

class Toolset:
    namespaces = ("stuck",)
    async def list_tools(self, namespaces): return []
    async def aclose(self): {tools}

@hookimpl
def afk_sink(): return Sink()

@hookimpl
def afk_provider(): return Provider()

@hookimpl
def afk_store(): return Store()

@hookimpl
def afk_tools(): return Toolset()
"""
PARTS = ("sink", "provider", "store", "tools")


@pytest.mark.parametrize(
    ("part", "how", "line"),
    [
        ("provider", "await waits()", "the provider 'stuck' did not close within 0.2 s"),
        ("provider", "await ignores()", "the provider 'stuck' did not close within 0.2 s"),
        ("tools", "await waits()", "the tools of the plugin 'stuck' did not close within 0.2 s"),
        ("tools", "await ignores()", "the tools of the plugin 'stuck' did not close within 0.2 s"),
        ("tools", "await asyncio.to_thread(blocks)", "the tools of the plugin 'stuck' did not close within 0.2 s"),
        ("tools", "raise SystemExit(9)", "the tools of the plugin 'stuck' could not be closed: SystemExit(9)"),
        ("store", "blocks()", "the store did not close within 0.2 s; all turns are saved by now"),
        ("sink", "blocks()", "the sink 'stuck' did not close within 0.2 s; its last events may be missing"),
    ],
)
def test_a_close_that_does_not_end_is_named_and_the_run_ends(shell: Shell, part: str, how: str, line: str) -> None:
    (shell.folder / "stuck.py").write_text(PLUGIN.format(**{**dict.fromkeys(PARTS, "pass"), part: how}))
    done = shell.afk("run", "--plugin", "stuck.py", "--tool", "stuck.*", "-m", "stuck/m", "hi", AFK_STORE="stuck")
    assert (done.code, done.out) == (0, "fine\n"), done.err
    assert done.err.count(line) == 1, done.err
    assert "something went wrong" not in done.err


def test_all_that_does_not_close_is_named(shell: Shell) -> None:
    how = dict(zip(PARTS, ("blocks()", "await waits()", "blocks()", "await ignores()"), strict=True))
    (shell.folder / "stuck.py").write_text(PLUGIN.format(**how))
    done = shell.afk("run", "--plugin", "stuck.py", "--tool", "stuck.*", "-m", "stuck/m", "hi", AFK_STORE="stuck")
    assert (done.code, done.out) == (0, "fine\n"), done.err
    assert done.err.count("did not close within 0.2 s") == len(PARTS), done.err
