"""The conversations of `llm`'s logs database, from its older and its newer tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from afkcli.core.contract.text import collapsed
from afkcli.core.contract.waits import progress
from afkcli.foreign.conversation import Conversation, ForeignError, ForeignTurn, Notes, Parts
from afkcli.foreign.llm_database import LlmDatabase, ulid_time
from afkcli.foreign.llm_responses import OlderTables
from afkcli.foreign.llm_threads import NewerTables


class Unread(NamedTuple):
    """A conversation that cannot be read, by its id, and why."""

    id: str
    what: str


def read_llm(database: LlmDatabase, notes: Notes) -> Iterator[Conversation | Unread]:
    """Yield all conversations, the oldest first, each as it is when it is read.

    Args:
        database: an open one.
        notes: counts what has no counterpart.
    """
    older, newer = OlderTables(database, notes), NewerTables(database, notes)
    found = [*older.names(), *newer.names()]
    names: dict[str, str] = {}
    for id_, name in found:
        names[id_] = name or names.get(id_, "")
    with progress("importing conversations") as tell:
        for number, id_ in enumerate(sorted(names)):  # ULIDs sort by time
            tell(number, len(names))
            parts = Parts(notes)
            try:
                with database.moment():
                    turns = newer.turns(id_, older.turns(id_, parts), parts)
            except ForeignError as error:
                yield Unread(id_, str(error))
            except sqlite3.Error as error:
                yield Unread(id_, f"it cannot be read: {collapsed(str(error), 200)}")
            else:
                yield _conversation(id_, names[id_], turns, parts)


def _conversation(id_: str, name: str, turns: list[ForeignTurn], parts: Parts) -> Conversation:
    created = ulid_time(id_)
    first = next((turn.started for turn in turns if turn.started is not None), None)
    return Conversation(
        source="llm",
        id=id_,
        title=name or None,
        created=created if created is not None else first,
        turns=tuple(turns),
        contents=parts.contents,
    )
