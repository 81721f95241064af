"""A throw-away turn leaves the worker as it was."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from afkcli.host.ending import Ending
from afkcli.host.invocation import Invocation
from afkcli.testing.model_server import ModelServer
from afkcli.worker.rehearsal import PARTS, Part, Rehearsal
from tests.worker.warm.conftest import WarmShell


@pytest.mark.parametrize("module", PARTS)
def test_variables_that_a_turn_sets_or_removes_are_as_before(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LiteLLM is told by variables of its own what not to load."""
    monkeypatch.setenv("KEPT", "yes")
    seen = []

    def command(make: Callable[[], Invocation]) -> Ending:
        seen.append((dict(os.environ), list(make().arguments)))
        os.environ["SET_BY_A_TURN"] = "yes"
        os.environ["KEPT"] = "changed"
        os.environ.pop("HOME", None)
        return Ending(0)

    before = dict(os.environ)
    Rehearsal(command, [module], str(tmp_path)).run(2)

    assert dict(os.environ) == before
    assert seen[0][1][:1] == ["run"]
    assert set(PARTS[module].variables) <= set(seen[0][0])
    assert list(tmp_path.iterdir()) == []


def test_a_provider_that_was_not_used_is_not_rehearsed(tmp_path: Path) -> None:
    def command(make: Callable[[], Invocation]) -> Ending:
        raise AssertionError("a turn was taken")

    Rehearsal(command, ["afkcli.core.run.loop", "sqlite3"], str(tmp_path)).run(3)


def test_a_plugin_imports_its_sdk_first_and_forgets_at_last_what_the_turns_left_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    plugin = SimpleNamespace(load=lambda: called.append("load"), forget=lambda: called.append("forget"))
    monkeypatch.setitem(sys.modules, "plugin_with_an_sdk", plugin)
    part = Part("m", {}, b"", loader="plugin_with_an_sdk:load", forgetter="plugin_with_an_sdk:forget")
    monkeypatch.setitem(PARTS, "plugin_with_an_sdk.provider", part)

    def command(make: Callable[[], Invocation]) -> Ending:
        called.extend(make().arguments[:1])
        return Ending(0)

    rehearsal = Rehearsal(command, ["plugin_with_an_sdk.provider"], str(tmp_path))
    rehearsal.load()
    rehearsal.run(2)

    assert called == ["load", "run", "threads", "threads", "run", "forget"]


def test_what_a_turn_left_in_an_sdk_is_forgotten_also_when_a_turn_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    monkeypatch.setitem(sys.modules, "plugin_with_an_sdk", SimpleNamespace(forget=lambda: called.append("forget")))
    monkeypatch.setitem(PARTS, "plugin_with_an_sdk.provider", Part("m", {}, b"", forgetter="plugin_with_an_sdk:forget"))

    with pytest.raises(RuntimeError):
        Rehearsal(lambda make: Ending(1), ["plugin_with_an_sdk.provider"], str(tmp_path)).run(1)

    assert called == ["forget"]


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_rehearsal_sends_nothing_to_a_proxy(fresh: WarmShell, server: ModelServer, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.setblocking(False)
        fresh.env.update({variable: f"http://127.0.0.1:{proxy.getsockname()[1]}", "NO_PROXY": "localhost"})
        fresh.env["OPENAI_BASE_URL"] = server.base_url.replace("127.0.0.1", "localhost")

        assert fresh.warm(lambda: fresh.afk("run", "-n", "hi")).code == 0
        with pytest.raises(BlockingIOError):
            proxy.accept()
