"""Which turns of a thread are set aside: undone, or replaced by a turn that asked their question again.

A turn that is set aside stays in the thread and keeps its number. It is not sent, and not shown unless it is asked for.
All of it follows from the numbers of the turns and from the changes of the thread, in the order of their records.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from afkcli.core.thread.changes import Change, Compaction, Redo, Replacement, Undo

if TYPE_CHECKING:  # a search needs none
    from afkcli.core.thread.turns import SealedTurn

UNDONE = "undone"


def undos_in_force(changes: Iterable[Change]) -> list[Undo]:
    """Return the undos that were not taken back, in order."""
    undos: dict[int, Undo] = {}
    for change in changes:
        if isinstance(change, Undo):
            undos[change.record] = change
        elif isinstance(change, Redo):
            undos.pop(change.undo, None)
    return list(undos.values())


def set_aside(numbers: Iterable[int], changes: Sequence[Change]) -> dict[int, str]:
    """Return why turns are set aside (`undone`, `replaced by turn N`), by their numbers.

    Args:
        numbers: those of the turns that can be read. A turn that replaces others and is damaged does not replace them.
        changes: the changes of the thread.
    """
    found = set(numbers)
    last = max(found, default=0)
    undone = {number for undo in undos_in_force(changes) for number in undo.turns}
    aside: dict[int, str] = {}
    for change in changes:
        if isinstance(change, Replacement) and change.by not in undone and (change.by in found or change.by > last):
            aside |= dict.fromkeys(change.turns, f"replaced by turn {change.by}")
    return aside | dict.fromkeys(undone, UNDONE)


def seen_turns(turns: Sequence[SealedTurn], changes: Sequence[Change]) -> tuple[SealedTurn, ...]:
    """Return the turns that are not set aside."""
    if not any(isinstance(change, (Undo, Replacement)) for change in changes):
        return tuple(turns)
    aside = set_aside((turn.turn for turn in turns), changes)
    return tuple(turn for turn in turns if turn.turn not in aside)


def path_to(number: int, turns: Sequence[SealedTurn], changes: Sequence[Change]) -> tuple[SealedTurn, ...]:
    """Return the turns that were seen when the turn `number` was the last one, that turn included."""
    return seen_turns([turn for turn in turns if turn.turn <= number], changes_until(number, changes))


def changes_until(number: int, changes: Iterable[Change]) -> list[Change]:
    """Return the changes that came before the end of the turn `number`."""
    return [change for change in changes if _comes_before_the_end_of(change, number)]


def _comes_before_the_end_of(change: Change, number: int) -> bool:
    if isinstance(change, Replacement):
        return change.by <= number
    made_by_turn = isinstance(change, Compaction) and change.run_id is not None
    return change.turn <= number if made_by_turn else change.turn < number


def asked_last(turns: Sequence[SealedTurn]) -> tuple[SealedTurn, ...]:
    """Return the last turn of `turns` with those that it resumed: one question, and all tries to answer it."""
    if not turns:
        return ()
    group = [turns[-1]]
    for turn in reversed(turns[:-1]):
        if not (group[0].resumed and group[0].parent_run_id == turn.run_id):
            break
        group.insert(0, turn)
    return tuple(group)
