"""Which compaction of a thread is used: what is sent in place of old turns, as long as it fits what is seen.

It follows from the turns and the changes of the thread alone, as what is set aside does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from afkcli.core.contract.messages import Message, Role, TextPart
from afkcli.core.contract.protocols import THREAD_SCHEMA, Record, RecordKind, ThreadInfo
from afkcli.core.contract.structs import replace
from afkcli.core.thread.changes import Change, Compaction, compacted_body
from afkcli.core.thread.records import advance, next_record
from afkcli.core.thread.set_aside import undos_in_force
from afkcli.core.thread.turns import SealedTurn, resumed_by

INTRODUCTION = (
    "The beginning of this conversation was replaced by the following summary of it; do not guess what it does not say."
)


def has_summary(compaction: Compaction) -> bool:
    """Return whether any model can take it: it has a text."""
    return bool(compaction.summary)


def compactions_in_force(changes: Iterable[Change]) -> list[Compaction]:
    """Return the compactions that are not undone, in order."""
    changes = tuple(changes)
    found = [change for change in changes if isinstance(change, Compaction)]
    if not found:
        return []
    undone = {record for undo in undos_in_force(changes) for record in undo.compactions}
    return [compaction for compaction in found if compaction.record not in undone]


def compaction_of(
    seen: Sequence[SealedTurn],
    aside: Mapping[int, str],
    changes: Iterable[Change],
    takes: Callable[[Compaction], bool] = has_summary,
) -> Compaction | None:
    """Return the compaction that is used: the last one in force that fits what is seen; None if there is none.

    Args:
        seen: the turns that are not set aside.
        aside: the turns that are, by number.
        changes: the changes of the thread.
        takes: says whether a compaction can be used by the model that is asked.
    """
    for compaction in reversed(compactions_in_force(changes)):
        if takes(compaction) and fits(compaction, seen, aside):
            return compaction
    return None


def fits(compaction: Compaction, seen: Sequence[SealedTurn], aside: Iterable[int]) -> bool:
    """Return whether a compaction says what the first turns that are seen say.

    It does not if a turn that it covers is set aside, or resumed by one that it does not cover (which has all of it),
    or if there is one before its end that it does not cover. It does where a turn that it covers is damaged.
    """
    if any(compaction.has(number) for number in aside):
        return False
    if not all(compaction.has(turn.turn) for turn in seen if turn.turn <= compaction.through):
        return False
    return not any(
        compaction.has(seen[position].turn) and not compaction.has(later.turn)
        for position, later in resumed_by(seen).items()
    )


def message_of(compaction: Compaction) -> Message:
    """Return the message that is sent in place of the turns that a compaction covers.

    It is the user's, and not an instruction of the system: a summary repeats what tools returned. Its end is marked,
    because some APIs get it and the question after it as one message.
    """
    text = f"{INTRODUCTION}\n\n<summary>\n{compaction.summary}\n</summary>"
    return Message(role=Role.USER, parts=(TextPart(text=text, provider_data=compaction.provider_data),))


def with_compaction(thread: ThreadInfo, compaction: Compaction, turn: int) -> tuple[ThreadInfo, Record]:
    """Return `thread` as it is after a compaction, which counts in what it cost, and the record to append.

    Args:
        thread: the thread.
        compaction: the compaction; its place in the thread is that of the record.
        turn: the number of the last turn that was opened, which is the one whose run made it, if one did.
    """
    record = next_record(thread, RecordKind.META, turn, compacted_body(compaction))
    costs = thread.cost_usd, compaction.cost_usd
    cost = None if costs[0] is None or costs[1] is None else round(costs[0] + costs[1], 12)
    changed = replace(
        advance(thread, record), schema=THREAD_SCHEMA, usage=thread.usage + compaction.usage, cost_usd=cost
    )
    return changed, record
