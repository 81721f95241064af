"""Rows of one transaction, read together before its operations and written together after them.

An operation takes about ten statements, and at each the thread gives up Python's lock and has to get it back, while
other threads of the process compute. So what many operations need is read by one statement, and what they write is
collected and written by a few. Whatever is not plain (a damaged row, one that is there and should not be, text that
cannot be stored) raises `NotPlainError`; the caller then rolls back and takes the operations one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from afk_store_disk import rows
from afk_store_disk.cache import ThreadCache
from afkcli.plugin import Acquire, Add, Operation


class NotPlainError(Exception):
    """The operations have to be carried out one by one, by statements of their own."""


class Buffer:
    """The rows of a database as the operations of one transaction see and change them.

    Args:
        cache: the database, inside a transaction or a snapshot.

    Attributes:
        changes: how many changes were made so far.
    """

    def __init__(self, cache: ThreadCache) -> None:
        self.file = cache.file
        self.changes = 0
        self._cache = cache
        self._texts: dict[str, str | None] = {}  # as they are now, also where they are not written yet
        self._new: dict[str, str] = {}
        self._put: dict[str, str] = {}
        self._dropped: set[str] = set()
        self._dropped_ranges: list[tuple[str, str]] = []
        self._contents: list[tuple[str, Mapping[str, bytes]]] = []
        self._dropped_contents: list[str] = []
        self._last_keys: dict[str, str] = {}  # by prefix

    def read(self, operations: Iterable[Operation]) -> None:
        """Read the rows that operations need, by two statements.

        Raises:
            NotPlainError: a row is not text.
        """
        keys: set[str] = set()
        names: set[str] = set()
        for operation in operations:
            match operation:
                case Acquire(name):
                    names.update(rows.name_keys(name))
                case Add(counter):
                    keys.add(rows.counter_key(counter))
                case _:
                    key = operation.lease.thread.key
                    keys.update((rows.holder_key(key), rows.info_key(key)))
        self._read(keys | names)
        threads = {text.strip('"') for name in names if (text := self._texts[name])}
        self._read({row for key in threads for row in (rows.holder_key(key), rows.info_key(key))} - keys)

    def _read(self, keys: set[str]) -> None:
        self._texts.update(dict.fromkeys(keys))
        for key, text in self._cache.texts_of(keys):
            if text is None or key not in keys:
                raise NotPlainError
            self._texts[key] = text

    def text(self, key: str) -> str | None:
        """Return the text of a row that was read, or written since; None if there is no such row."""
        if key not in self._texts:
            if any(start <= key < end for start, end in self._dropped_ranges):
                return None
            self._read({key})
        return self._texts[key]

    def text_if_sound(self, key: str) -> tuple[str | None, bool]:
        """As `ThreadCache.text_if_sound`."""
        text = self.text(key)
        return text, text is not None

    def neighbours(self, first: str, last: str) -> dict[str, str | None]:
        """As `ThreadCache.neighbours`, of two rows with no other one between them."""
        return {first: self.text(first), last: self.text(last)}

    def last_key(self, prefix: str) -> str:
        """Return a key that is not less than any that starts with `prefix` and a slash."""
        if prefix not in self._last_keys:
            self._last_keys[prefix] = self._cache.last_key(prefix)
        return self._last_keys[prefix]

    def keys(self, prefix: str) -> Iterator[str]:
        """Raise `NotPlainError`, as the next methods do: few operations need more than single rows."""
        raise NotPlainError

    def texts(
        self, start: str, end: str, *, limit: int = -1, reverse: bool = False
    ) -> Iterator[tuple[str, str | None]]:
        raise NotPlainError

    def scanned_texts(self, start: str, end: str) -> Iterator[tuple[str, str | None]]:
        raise NotPlainError

    def is_shown_by_index(self, key: str) -> bool:
        raise NotPlainError

    def put(self, key: str, text: str) -> None:
        """As `ThreadCache.put`."""
        self.changes += 1
        (self._new if key in self._new else self._put)[key] = text
        self._texts[key] = text

    def put_all(self, texts: Mapping[str, str]) -> None:
        """As `ThreadCache.put_all`."""
        for key, text in texts.items():
            self.put(key, text)

    def put_new(self, texts: Iterable[tuple[str, str]]) -> None:
        """As `ThreadCache.put_new`; a row that is there is found when all is written."""
        for key, text in texts:
            if self._texts.get(key) is not None:
                raise NotPlainError
            self.changes += 1
            self._new[key] = self._texts[key] = text
            prefix = key.partition("/")[0]
            if prefix in self._last_keys:
                self._last_keys[prefix] = max(self._last_keys[prefix], key)

    def drop(self, *ranges: tuple[str, str]) -> None:
        """As `ThreadCache.drop`."""
        for start, end in ranges:
            if end == f"{start}\0":
                self.drop_rows(start)
                continue
            self.changes += 1
            self._dropped_ranges.append((start, end))
            for key in [key for key in self._texts if start <= key < end]:
                self._forget(key)

    def drop_rows(self, *keys: str) -> None:
        """As `ThreadCache.drop_rows`."""
        for key in keys:
            self.changes += 1
            self._dropped.add(key)
            self._forget(key)

    def _forget(self, key: str) -> None:
        self._texts[key] = None
        self._new.pop(key, None)
        self._put.pop(key, None)

    def put_contents(self, thread: str, contents: Mapping[str, bytes]) -> None:
        """As `ThreadCache.put_contents`."""
        if contents:
            self.changes += 1
            self._contents.append((thread, contents))

    def drop_contents(self, thread: str) -> None:
        """As `ThreadCache.drop_contents`."""
        self.changes += 1
        self._dropped_contents.append(thread)
        self._contents = [(of, contents) for of, contents in self._contents if of != thread]

    def write(self, taken: Sequence[str]) -> None:
        """Write what was changed.

        Args:
            taken: the threads whose leases were taken; the index has to lead to their rows.

        Raises:
            NotPlainError: a new row is there already, or the index leads to another one.
        """
        self._cache.drop_exact(sorted(self._dropped))
        self._cache.drop(*self._dropped_ranges)
        if not (self._cache.write(self._new, new=True) and self._cache.write(self._put, new=False)):
            raise NotPlainError
        for thread in self._dropped_contents:
            self._cache.drop_contents(thread)
        for thread, contents in self._contents:
            self._cache.put_contents(thread, contents)
        holders = {row: text for key in taken if (text := self._texts[row := rows.holder_key(key)])}
        if dict(self._cache.texts_of(holders)) != holders:
            raise NotPlainError


Rows: TypeAlias = ThreadCache | Buffer
"""Where an operation reads and writes."""
