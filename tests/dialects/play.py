"""Plays one turn of one dialect with afk, and the turn after it, and judges what was shown, stored and sent."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.dialects import transcript
from tests.dialects.dialect import (
    ANSWER,
    CALLS,
    HALF,
    INPUT_TOKENS,
    INSTRUCTIONS,
    KEY,
    NEXT_QUESTION,
    OUTPUT_TOKENS,
    QUESTION,
    REASONING,
    RESULTS,
    TOOL,
    Dialect,
    Turn,
)
from tests.dialects.server import DialectServer
from tests.e2e.shell import Finished, Shell

RETRY_DELAY = 0.01
GARDEN = '''
"""A tool that changes nothing."""
from afkcli import hookimpl, tool

AFK_HOOKS = 1
AFK_NAME = "garden"
LITRES = {"beans": 12, "chard": 7}


@tool(name="garden.water", changes=False)
def water(plant: str) -> str:
    """Tell how much water a plant needs."""
    return f"{plant}: {LITRES[plant]} litres"


@hookimpl
def afk_tools(settings):
    return [water]
'''

_USER = f"user: {QUESTION}"
_ANSWER = f"assistant: {''.join(ANSWER)}"
_REASONING = f"reasoning: {''.join(REASONING)}"
_CALLS = [f"call: {TOOL} {arguments}" for arguments in CALLS]
_RESULTS = [f"result: {text}" for text in RESULTS]


@dataclass(slots=True)
class Played:
    """What came of one turn; `problems` is what is not as it should be."""

    dialect: Dialect
    turn: Turn
    code: int = -1
    requests: int = 0
    line: str = ""
    problems: list[str] = field(default_factory=list)

    def expect(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            self.problems.append(f"{what} is {found!r}, not {wanted!r}")


def play(dialect: Dialect, turn: Turn) -> Played:
    """Play a turn and the next one in a clean home."""
    played = Played(dialect, turn)
    with tempfile.TemporaryDirectory(prefix="afk-dialects-") as folder, DialectServer(dialect) as server:
        shell = _shell(Path(folder), dialect, server)
        server.script(dialect.replies(turn))
        _judge_run(played, _run(shell, dialect, QUESTION), server)
        _judge_sent(played, server)
        _judge_stored(played, shell.in_process("threads", "export", "t"))
        server.script([dialect.final])
        done = _run(shell, dialect, NEXT_QUESTION)
        played.expect("the next turn", (done.code, _shown(done, "text_delta"), server.refusals), (0, "Seven.", []))
        _judge_history(played, server)
    return played


def _shell(folder: Path, dialect: Dialect, server: DialectServer) -> Shell:
    shell = Shell(home=folder / "home", folder=folder / "work")
    shell.folder.mkdir()
    (shell.folder / "garden.py").write_text(GARDEN)
    config = shell.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    table = {"base_url": dialect.base_url.format(origin=server.origin), "api_key": KEY, **dialect.settings}
    settings = "\n".join(f"{name} = {json.dumps(value)}" for name, value in table.items())
    agent = f"[agents.afk]\ninstructions = {json.dumps(INSTRUCTIONS)}\n"
    config.write_text(f"retry_delay = {RETRY_DELAY}\n[providers.{dialect.provider}]\n{settings}\n{agent}")
    return shell


def _run(shell: Shell, dialect: Dialect, question: str) -> Finished:
    model = f"{dialect.provider}/{dialect.model}"
    return shell.in_process(
        *("run", "--json", "-t", "t", "-m", model, "--plugin", "garden.py", "--tool", TOOL, question)
    )


def _judge_run(played: Played, done: Finished, server: DialectServer) -> None:
    turn, failure = played.turn, played.dialect.failure(played.turn)
    events, result = done.events, done.events[-1]["result"]
    fails = failure is not None and turn is not Turn.RATE_LIMITED
    played.code, played.requests = done.code, len(server.requests)
    played.line = done.err.strip().splitlines()[-1] if done.err.strip() else ""
    played.expect("refused requests", server.refusals, [])
    played.expect("exit code", done.code, failure.code if failure and fails else 0)
    played.expect("state", result["state"], failure.state if failure and fails else "completed")
    played.expect("error kind", result["error_kind"], failure.kind if failure and fails else None)
    played.expect("number of requests", len(server.requests), len(played.dialect.replies(turn)))
    played.expect("shown text", _shown(done, "text_delta"), _wanted_text(turn))
    played.expect("shown reasoning", _shown(done, "reasoning_delta"), _wanted_reasoning(played))
    said = json.dumps([event for event in events if event["type"] in ("retrying", "warning", "failed", "degraded")])
    said += done.err + str(result["error"])
    if failure is not None and failure.says not in said:
        played.problems.append(f"the server's words {failure.says!r} are not shown: {said}")
    if failure is None and done.err:
        played.problems.append(f"stderr is not empty: {done.err!r}")
    if turn in (Turn.PLAIN, Turn.REASONING):
        counted = (result["usage"]["input_tokens"], result["usage"]["output_tokens"])
        played.expect("the token counts", counted, (INPUT_TOKENS, OUTPUT_TOKENS))
    if KEY in done.err + done.out:
        played.problems.append("the key is shown")
    retries = [event["error"] for event in events if event["type"] == "retrying"]
    played.expect("number of retries", len(retries), 1 if turn is Turn.RATE_LIMITED else 0)


def _shown(done: Finished, kind: str) -> str:
    return "".join(event[kind] for event in done.events if event["type"] == kind)


def _wanted_text(turn: Turn) -> str:
    return {Turn.REFUSED: "", Turn.WRONG_KEY: "", Turn.CUT: "".join(HALF)}.get(turn, "".join(ANSWER))


def _wanted_reasoning(played: Played) -> str:
    thinks = played.turn is Turn.REASONING or (played.turn is Turn.TOOLS and played.dialect.reasons_before_calls)
    return "".join(REASONING) if thinks and (played.dialect.shows_reasoning or played.turn is Turn.TOOLS) else ""


def _lines(played: Played) -> list[str]:
    """Return the turn as it has to be stored."""
    thought = [_REASONING] if _wanted_reasoning(played) else []
    return {
        Turn.PLAIN: [_USER, _ANSWER],
        Turn.REASONING: [_USER, *thought, _ANSWER],
        Turn.TOOLS: [_USER, *thought, *_CALLS, *_RESULTS, _ANSWER],
        Turn.REFUSED: [_USER],
        Turn.WRONG_KEY: [_USER],
        Turn.RATE_LIMITED: [_USER, _ANSWER],
        Turn.CUT: [_USER, f"assistant: {''.join(HALF)}"],
    }[played.turn]


def _judge_sent(played: Played, server: DialectServer) -> None:
    """Judge the requests of the turn: the question, and the two results in the second step."""
    system = f"system: {INSTRUCTIONS}"
    for n, body in enumerate(server.requests):
        wanted = [system, _USER]
        if n and played.turn is Turn.TOOLS:
            wanted += [*_CALLS, *_RESULTS]
        played.expect(f"what request {n + 1} sends", transcript.sent(played.dialect.api, body), wanted)


def _judge_stored(played: Played, done: Finished) -> None:
    records = [event for event in done.events if event["type"] == "record" and event["kind"] == "seal"]
    messages: list[Mapping[str, Any]] = [
        message for record in records for message in json.loads(record["body"])["messages"]
    ]
    played.expect("what is stored", transcript.stored(messages), _lines(played))
    called = [part["id"] for part in _parts(messages, "tool_call")]
    results = [part["id"] for part in _parts(messages, "tool_result")]
    played.expect("the ids of the stored results", (results, len(set(results))), (called, len(called)))


def _parts(messages: Iterable[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    return [part for message in messages for part in message["parts"] if part["type"] == kind]


def _judge_history(played: Played, server: DialectServer) -> None:
    """Judge what the next turn sends of the one before."""
    history = [line for line in _lines(played) if not line.startswith("reasoning: ")]
    failure = played.dialect.failure(played.turn)
    if failure is not None and failure.left_out:
        history = []
    elif played.turn is Turn.CUT:
        history[-1] += "[cut]"
    wanted = [f"system: {INSTRUCTIONS}", *history, f"user: {NEXT_QUESTION}"]
    for body in server.requests[:1]:
        played.expect("what the next turn sends", transcript.sent(played.dialect.api, body), wanted)
