"""The ledger: the texts that were sent and received, the content of the threads afterwards, and the missing parts.

It reads a thread as a user would take it out (`afk threads export`) and judges it by what the processes printed and
what the server was asked, so a fault of the thread's own code cannot hide itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afkcli.core.contract.jsonform import dumps
from afkcli.core.contract.protocols import KEPT_KINDS, Record, RecordKind, ThreadInfo
from afkcli.core.thread.exchange import ExportedThread, RescuedTurn, read_lines
from afkcli.core.thread.history import fold
from afkcli.core.thread.turns import interrupted_turn, turn_to_json
from afkcli.testing.model_server import RecordedRequest
from tests.faults.server import Stamps
from tests.faults.table import Row
from tests.faults.world import Running, World

_CUT_NOTE = "cut off"


@dataclass(frozen=True, slots=True)
class KeptTurn:
    """A sealed turn, from an export."""

    number: int
    run_id: str
    state: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class KeptThread:
    """A thread, from its export; `damage` names its faults."""

    name: str
    turns: tuple[KeptTurn, ...]
    damage: tuple[str, ...]

    def of(self, message: str) -> list[KeptTurn]:
        return [turn for turn in self.turns if turn.question == message]


def settle(world: World, row: Row, *, last_word: bool = True) -> None:
    """Judge all runs of the world: read every thread that they name and put the faults into `row`.

    With `last_word` each thread gets one more turn first, which shows what the model gets of the earlier turns.
    """
    names = list(dict.fromkeys(running.thread for running in world.runs))
    if last_word:
        for name in names:
            last = world.run(name, f"last word of {name}")
            if last.process.returncode != 0:
                row.problems.append(f"{name}: the next run ended with {last.process.returncode}: {last.stderr}")
    for name in names:
        thread = read_thread(world, name)
        runs = [running for running in world.runs if running.thread == name]
        if thread is None:
            if any(_accepted(world, running) for running in runs):
                row.damaged += 1
                row.problems.append(f"{name} cannot be exported: {world.afk('threads', 'export', name).err}")
            continue
        before = len(row.problems) + row.lost + row.messages_lost
        _check_thread(thread, row)
        for running in runs:
            _check_run(world, running, thread, row)
        if len(row.problems) + row.lost + row.messages_lost > before:
            row.problems.append(f"{name}, by its export (seed {world.seed}):\n{_listing(thread)}")


def read_thread(world: World, name: str) -> KeptThread | None:
    """Return a thread as `afk threads export` writes it, or None if there is no thread."""
    done = world.afk("threads", "export", name)
    return kept_thread(done.out) if done.code == 0 else None


def kept_thread(export: str) -> KeptThread:
    head, *rows, _ = [json.loads(line) for line in export.splitlines()]
    info = _thread_info(head["thread"])
    records = [_record(row) for row in rows]
    seals = [record for record in records if record.kind is RecordKind.SEAL]
    damage = list(fold(info, records).damage)
    if head["thread"]["open_turn"] is not None:
        damage.append("a turn is still open")
    return KeptThread(info.name, tuple(_kept_turn(json.loads(seal.body)) for seal in seals), tuple(damage))


def _listing(thread: KeptThread) -> str:
    """Return the turns of a thread, a line each, as they were exported."""
    return "\n".join(f"  {turn.number} {turn.state} {turn.question!r} {turn.answer!r}" for turn in thread.turns)


def _thread_info(form: dict[str, Any]) -> ThreadInfo:
    names = ("key", "name", "created", "used", "head", "kept_head", "next_index", "turns")
    return ThreadInfo(**{name: form[name] for name in names})


def _record(row: dict[str, Any]) -> Record:
    fields = {name: row[name] for name in Record.__struct_fields__}
    return Record(**{**fields, "kind": RecordKind(row["kind"])})


def _kept_turn(body: dict[str, Any]) -> KeptTurn:
    question, *answer = [_text(message) for message in body["messages"]]
    return KeptTurn(body["turn"], body["run_id"], body["state"], question, "".join(answer))


def open_turn_of(exported: ExportedThread) -> KeptTurn:
    """Return the last turn of a thread: sealed, or open."""
    thread, records = exported.thread, exported.records
    if thread.open_turn is None:
        return _kept_turn(json.loads(records[-1].body))
    opened = [record for record in records if record.kind not in KEPT_KINDS]
    return _kept_turn(json.loads(dumps(turn_to_json(interrupted_turn(thread, thread.open_turn, opened)))))


def _text(message: dict[str, Any]) -> str:
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")


def _check_thread(thread: KeptThread, row: Row) -> None:
    if thread.damage:
        row.damaged += 1
        row.problems += [f"{thread.name} is damaged: {line}" for line in thread.damage]
    numbers = [turn.number for turn in thread.turns]
    if numbers != list(range(1, len(numbers) + 1)):
        row.problems.append(f"{thread.name}: its turns are not sealed once each and in order: {numbers}")
    if len({turn.run_id for turn in thread.turns}) != len(numbers):
        row.problems.append(f"{thread.name}: a run has two turns")


def _check_run(world: World, running: Running, thread: KeptThread, row: Row) -> None:
    turns = thread.of(running.message)
    if len(turns) > 1:
        row.problems.append(f"{running.message!r} is {len(turns)} times in {thread.name}")
    rescued = _rescued(running)
    if rescued is not None and running.killed_at is not None and result_of(running) is None:
        check_partial(running, rescued, world.server.sent(running.message), row)
    elif rescued is not None and rescued.answer != shown_text(running):
        row.problems.append(f"the rescue file of {running.message!r} holds {rescued}")
    if not turns and rescued is None and _accepted(world, running):
        row.messages_lost += 1
        row.problems.append(f"{running.message!r} is not in {thread.name}; it printed: {running.out.read_text()}")
    result = result_of(running)
    if result is not None and result["saved"]:
        row.finished += 1
        if not turns or (turns[0].state, turns[0].answer) != (result["state"], shown_text(running)):
            row.lost += 1
            row.problems.append(f"the turn of {running.message!r} is not kept as it was: {result}, kept: {turns}")
    _check_exit(running, row)
    for turn in turns:
        if running.killed_at is not None and result is None:
            check_partial(running, turn, world.server.sent(running.message), row)
        for request in world.server.requests_of(running.message):
            _check_request(request, thread.turns[: turn.number - 1], row)


def _check_exit(running: Running, row: Row) -> None:
    """Every run ends as the table of states says; stderr has only lines for a person."""
    code, disturbed = running.process.returncode, " ".join(running.disturbed) or "nothing"
    told = f"{running.stderr} {[event['message'] for event in running.events() if event['type'] == 'warning']}"
    if "Traceback" in running.stderr:
        row.problems.append(f"{running.message!r} ended in a traceback after {disturbed}: {running.stderr}")
    elif any(not line.startswith("afk: ") for line in running.stderr.splitlines()):
        row.problems.append(f"{running.message!r} wrote more than lines for a person to stderr: {running.stderr}")
    elif "hung" in disturbed:
        row.problems.append(f"{running.message!r} {disturbed}: {running.stderr}")
    elif code == 0 and result_of(running) is None:
        row.problems.append(f"{running.message!r} ended with 0 and without `completed`")
    elif code == 1 and _rescued(running) is None:
        row.problems.append(f"{running.message!r} ended with 1, is not saved and not rescued: {told}")
    elif code not in (0, 1, 5) and code >= 0:
        row.problems.append(f"{running.message!r} ended with {code} after {disturbed}: {told}")


def check_partial(running: Running, turn: KeptTurn, sent: Stamps, row: Row) -> None:
    """Text that was sent before a kill is kept, except that of the last moment; all kept text was sent."""
    message, killed_at = running.message, running.killed_at or time.time()
    everything = "".join(text for _, text in sent)
    if turn.state != "interrupted":
        if turn.answer != everything:
            row.problems.append(
                f"{message!r} was killed and is kept as {turn.state}: {turn.answer!r} of {everything!r}"
            )
        return
    if not everything.startswith(turn.answer):
        row.problems.append(f"{message!r}: text is kept that was not sent: {turn.answer!r} of {everything!r}")
        return
    end, oldest = 0, killed_at
    for at, text in sent:
        end += len(text)
        if end > len(turn.answer):
            oldest = min(at, killed_at)
            break
    row.add_text_lost((killed_at - oldest) * 1000)


def _check_request(request: RecordedRequest, before: Sequence[KeptTurn], row: Row) -> None:
    """The history that the model was sent is what the thread held before: all of it, in order, cuts marked."""
    said = [(item["role"], item["content"]) for item in request.body["messages"][:-1]]
    expected = [message for turn in before for message in _told(turn)]
    matches = len(said) == len(expected) and all(map(_matches, said, expected))
    if not matches:
        row.problems.append(f"request {request.n} was sent {said}, the thread held {expected}")


def _told(turn: KeptTurn) -> Iterable[tuple[str, str, bool]]:
    """Yield role, text and whether it is marked as cut, of what the next turn has to send of `turn`."""
    yield "user", turn.question, False
    if turn.state != "failed" or turn.answer:
        yield "assistant", turn.answer, turn.state != "completed"


def _matches(said: tuple[str, Any], expected: tuple[str, str, bool]) -> bool:
    role, text, cut = expected
    content = said[1] if isinstance(said[1], str) else "".join(part.get("text", "") for part in said[1])
    whole = content.startswith(text) and _CUT_NOTE in content[len(text) :] if cut else content == text
    return said[0] == role and whole


def _accepted(world: World, running: Running) -> bool:
    """Whether afk had taken the message: it had printed `run_started`, or the model was asked."""
    started = any(event["type"] == "run_started" for event in running.events())
    return started or bool(world.server.requests_of(running.message))


def _rescued(running: Running) -> KeptTurn | None:
    """Return the turn in the rescue file that the run named, if it named one."""
    for event in running.events():
        if event["type"] == "warning" and event["code"] == "not_saved":
            path = Path(event["message"].rpartition("it is kept in ")[2])
            if path.is_file():
                [item] = read_lines(path.read_bytes().splitlines())
                assert isinstance(item, RescuedTurn), item
                return _kept_turn(json.loads(dumps(turn_to_json(item.turn))))
    return None


def result_of(running: Running) -> dict[str, Any] | None:
    """Return the result that the run printed, if it printed one."""
    return next((event["result"] for event in running.events() if event["type"] == "completed"), None)


def shown_text(running: Running) -> str:
    """Return the text that was on stdout."""
    return "".join(event["text_delta"] for event in running.events() if event["type"] == "text_delta")
