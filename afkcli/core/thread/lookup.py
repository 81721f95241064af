"""Which thread a text means: by its name, a unique beginning of it, or the short name of an unnamed thread.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Sequence

from afkcli.core.contract.errors import UnknownNameError, UsageError
from afkcli.core.contract.protocols import Store, ThreadInfo
from afkcli.core.contract.suggestions import is_slip_of, near_names
from afkcli.core.thread.listing import names_meant, short_names, thread_names
from afkcli.core.thread.names import check_name

_NAMED = 4
"""How many threads are named where a text may mean several."""


def thread_meant(store: Store, text: str) -> ThreadInfo:
    """Return the thread that `text` means: the one of that name, else the only one whose name begins with it.

    The short name of an unnamed thread, or any end of its name that has four characters, means it too.

    Raises:
        UnknownNameError: it means no thread; the error names those with similar names.
        UsageError: it may mean several threads; the error names them.
        InvalidNameError: it is not a valid thread name.
    """
    text = check_name(text)
    found = store.find(text)
    if found is not None:
        return found
    names = names_meant(store, text, limit=_NAMED + 1)
    if len(names) > 1:
        raise UsageError(f"{text!r} may mean several threads: {_listed(store, names)}; write more of the name")
    found = store.find(names[0]) if names else None
    if found is None:
        raise unknown_thread(store, text)
    return found


def near_threads(store: Store, name: str) -> list[str]:
    """Return the names of threads that `name` is a slip of: one letter is wrong, missing, too much or swapped."""
    near = getattr(store, "names_near", None)
    names = thread_names(store) if near is None else near(name)
    return sorted(other for other in names if is_slip_of(name, other))


def unknown_thread(store: Store, name: str) -> UnknownNameError:
    """Return the error for a name that no thread has; it names threads with similar names."""
    near = near_threads(store, name) or near_names(name, thread_names(store), most=3)
    hint = f"did you mean {' or '.join(map(repr, near[:3]))}?" if near else "`afk threads` lists all threads"
    return UnknownNameError(f"there is no thread {name!r}; {hint}")


def _listed(store: Store, names: Sequence[str]) -> str:
    short = short_names(store, names[:_NAMED])
    shown = [repr(short.get(name, name)) for name in names[:_NAMED]]
    return f"{', '.join(shown)} and more" if len(names) > _NAMED else " or ".join([", ".join(shown[:-1]), shown[-1]])
