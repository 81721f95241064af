"""Exports and searches are right while other processes write to the same threads."""

from __future__ import annotations

import subprocess

from afkcli.testing.model_server import ModelServer, Step
from tests.e2e.shell import LIMIT, Shell

WRITERS = 8
TURNS = 3


def test_exports_and_searches_while_eight_processes_write_are_of_whole_turns(keyed: Shell, server: ModelServer) -> None:
    server.script(Step(text="an answer about wombats"))
    runs: list[subprocess.Popen[bytes]] = []
    exports: dict[str, list[str]] = {f"t-{number}": [] for number in range(WRITERS)}
    for turn in range(TURNS):
        runs = [keyed.start("run", "-t", name, f"question {turn} of {name}") for name in exports]
        while any(run.poll() is None for run in runs):
            for name, kept in exports.items():
                done = keyed.in_process("threads", "export", name)
                if done.code == 0:
                    kept.append(done.out)
                else:
                    assert "there is no thread" in done.err or "has not begun yet" in done.err
            found = keyed.in_process("threads", "search", "wombats", "--json")
            assert found.code == 0, found.err
            assert len({(one["thread_id"], one["turn"]) for one in found.events}) == len(found.events)
        for run in runs:
            _, said = run.communicate(timeout=LIMIT)
            assert run.returncode == 0, said
    for name, kept in exports.items():
        last = keyed.in_process("threads", "export", name).out
        assert _questions(keyed, name, last) == [f"question {turn} of {name}" for turn in range(TURNS)]
        for text in kept:
            read = _questions(keyed, name, text)
            assert read == [f"question {turn} of {name}" for turn in range(len(read))]
    found = keyed.in_process("threads", "search", "wombats", "--limit", "100", "--json")
    assert len(found.events) == WRITERS * TURNS


def _questions(shell: Shell, name: str, exported: str) -> list[str]:
    """Return the questions of an export, as another process shows them that has imported it into a store of its own."""
    home = shell.home / "second"
    elsewhere = {"HOME": str(home), "AFK_HOME": str(home / "afk")}
    imported = shell.in_process("threads", "import", stdin=exported.encode(), **elsewhere)
    assert imported.code == 0, imported.err
    turns = shell.in_process("threads", "show", name, "--json", **elsewhere).events
    again = shell.in_process("threads", "export", name, **elsewhere).out
    assert shell.in_process("threads", "rm", "-y", name, **elsewhere).code == 0
    assert again == exported or '"open_turn":{' in exported  # an import ends a turn that was in progress
    return [turn["messages"][0]["parts"][0]["text"] for turn in turns]
