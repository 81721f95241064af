"""A store against a model of a few lines: the same random calls on both, with crashes in between."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from afkcli.core.contract.errors import (
    CounterLimitError,
    HeadMismatchError,
    LeaseLostError,
    NameTakenError,
    UnknownNameError,
)
from afkcli.core.contract.messages import Role, text_message
from afkcli.core.contract.protocols import (
    KEPT_KINDS,
    LEASE_SECONDS,
    NO_CONTENTS,
    Lease,
    Record,
    RecordKind,
    Store,
    ThreadInfo,
)
from afkcli.core.thread.history import load_history
from afkcli.host.owner import current_owner
from afkcli.testing.store_steps import ShiftedTime, digest, with_journal, with_meta, with_question, with_seal


@dataclass
class _Thread:
    info: ThreadInfo
    records: dict[int, Record] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    token: str = ""
    expires: float = 0.0
    owner_dead: bool = False


class _Model:
    """What a store must do, on plain dictionaries."""

    def __init__(self) -> None:
        self.threads: dict[str, _Thread] = {}
        self.counters: dict[str, float] = {}

    def named(self, name: str) -> _Thread | None:
        return next((thread for thread in self.threads.values() if thread.info.name == name), None)

    def held(self, name: str) -> bool:
        """Return whether an unexpired lease of the thread is out."""
        thread = self.named(name)
        return thread is not None and thread.token != "" and thread.expires > time.monotonic()

    def owns(self, lease: Lease) -> bool:
        thread = self.threads.get(lease.thread.key)
        return thread is not None and thread.token == lease.token

    def append(self, info: ThreadInfo, record: Record, contents: Mapping[str, bytes] = NO_CONTENTS) -> None:
        thread = self.threads[info.key]
        thread.contents.update(contents)
        if record.kind is RecordKind.SEAL:
            thread.records = {
                index: old for index, old in thread.records.items() if old.kind in KEPT_KINDS or old.turn != record.turn
            }
        thread.records[record.index] = record
        thread.info = info

    def listed(self, folder: str | None, search: str | None) -> list[ThreadInfo]:
        found = [
            thread.info
            for thread in self.threads.values()
            if thread.info.head
            and (folder is None or thread.info.folder == folder)
            and (search is None or self._matches(thread, search))
        ]
        return sorted(found, key=lambda info: (info.used, info.key), reverse=True)

    def _matches(self, thread: _Thread, search: str) -> bool:
        bodies = [record.body for record in thread.records.values() if record.kind is RecordKind.SEAL]
        text = " ".join([thread.info.name, thread.info.title or "", *bodies]).lower()
        return all(word in text for word in search.lower().split())


_names = st.sampled_from(["one", "two", "three"])
_texts = st.sampled_from(["zebra", "quokka", "zebra quokka", "x" * 9000])
FILES = (b"", b"\x00\xff", b"x" * 20_000)
_files = st.sampled_from([None, None, *FILES])
_pick = st.integers(min_value=0, max_value=1000)


class StoreMachine(RuleBasedStateMachine):
    """Random calls on a store and on the model; both must tell the same after every step."""

    open_store: ClassVar[Callable[[Path], Store]]
    keeps_on_disk: ClassVar[bool] = True
    proves_death: ClassVar[bool] = True
    pass_time: ClassVar[Callable[[Path, float], None] | None] = None
    drop_store: ClassVar[Callable[[Path], None] | None] = None

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._time = ShiftedTime()
        self._time.start()
        self.model = _Model()
        self.leases: list[Lease] = []
        self.second = 0
        self.store = self._open()

    @property
    def _path(self) -> Path:
        return Path(self._folder.name) / "store"

    def _open(self) -> Store:
        return type(self).open_store(self._path)

    def teardown(self) -> None:
        self._time.stop()
        self.store.close()
        drop = type(self).drop_store
        if drop is not None:
            drop(self._path)
        self._folder.cleanup()

    @rule(name=_names, dead=st.booleans(), create=st.booleans())
    def acquire(self, name: str, dead: bool, create: bool) -> None:
        owner = current_owner("run")
        owner = replace(owner, boot_id="an-earlier-boot") if dead else owner
        thread = self.model.named(name)
        if thread is None and not create:
            with pytest.raises(UnknownNameError):
                self.store.acquire(name, owner, create=False)
            return
        free = not self.model.held(name) or (self.proves_death and thread is not None and thread.owner_dead)
        lease = self.store.acquire(name, owner, create=create)
        assert (lease is not None) == free
        if lease is None:
            return
        if thread is None:
            thread = self.model.threads[lease.thread.key] = _Thread(info=lease.thread)
        assert lease.thread == thread.info
        thread.token, thread.expires, thread.owner_dead = lease.token, time.monotonic() + LEASE_SECONDS, dead
        self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(pick=_pick)
    def renew(self, pick: int) -> None:
        lease = self._lease(pick)
        if not self.model.owns(lease):
            with pytest.raises(LeaseLostError):
                self.store.renew(lease)
            return
        thread = self.model.threads[lease.thread.key]
        assert self.store.renew(lease).thread == thread.info
        thread.expires = time.monotonic() + LEASE_SECONDS

    @precondition(lambda self: self.leases)
    @rule(pick=_pick)
    def release(self, pick: int) -> None:
        lease = self._lease(pick)
        self.store.release(lease)
        if self.model.owns(lease):
            thread = self.model.threads[lease.thread.key]
            thread.token = ""
            if not thread.info.head:
                del self.model.threads[lease.thread.key]

    @precondition(lambda self: self.leases)
    @rule(pick=_pick, text=_texts, file=_files, stale=st.sampled_from([False] * 9 + [True]))
    def write_turn(self, pick: int, text: str, file: bytes | None, stale: bool) -> None:
        """Take the next step of a turn: a question, journal, or the seal; each with or without a file."""
        lease = self._lease(pick)
        info = lease.thread if stale else self._info(lease)
        contents = NO_CONTENTS if file is None else {digest(file): file}
        self.second += 1
        if info.open_turn is None:
            self._append(lease, info, with_question(info, text, self.second), contents)
        elif pick % 3:
            self._append(lease, info, with_journal(info, text), contents)
        else:
            self._append(lease, info, with_seal(info, [text_message(Role.USER, text)], self.second), contents)

    @precondition(lambda self: self.leases)
    @rule(pick=_pick, name=_names, folder=st.sampled_from([None, "/a", "/b"]))
    def change(self, pick: int, name: str, folder: str | None) -> None:
        lease = self._lease(pick)
        info = self._info(lease)
        other = self.model.named(name)
        step = with_meta(info, name=name, folder=folder)
        if self.model.owns(lease) and other is not None and other.info.key != info.key:
            with pytest.raises(NameTakenError):
                self.store.append(step[0], [step[1]], info.head, lease)
        else:
            self._append(lease, info, step)

    @precondition(lambda self: self.leases)
    @rule(pick=_pick)
    def delete(self, pick: int) -> None:
        lease = self._lease(pick)
        if self.model.owns(lease):
            self.store.delete(lease)
            del self.model.threads[lease.thread.key]
        else:
            with pytest.raises(LeaseLostError):
                self.store.delete(lease)

    @rule(amount=st.integers(min_value=-3, max_value=3), limit=st.sampled_from([None, 2]))
    def add(self, amount: int, limit: int | None) -> None:
        value = self.model.counters.get("counter", 0) + amount
        if limit is not None and value > limit:
            with pytest.raises(CounterLimitError):
                self.store.add("counter", amount, limit)
        else:
            assert self.store.add("counter", amount, limit) == value
            self.model.counters["counter"] = value

    @rule(seconds=st.sampled_from([LEASE_SECONDS * 0.4, LEASE_SECONDS * 1.1]))
    def wait(self, seconds: float) -> None:
        self._time.advance(seconds)
        pass_time = type(self).pass_time
        if pass_time is not None:
            pass_time(self._path, seconds)

    @precondition(lambda self: self.keeps_on_disk)
    @rule(close=st.booleans())
    def reopen(self, close: bool) -> None:
        """Open the store again, after a proper end or after a crash: the old one is dropped as it is."""
        if close:
            self.store.close()
        self.store = self._open()

    @rule(
        search=st.sampled_from([None, "zebra", "quokka zebra", "o", "one", "nowhere"]), limit=st.sampled_from([None, 1])
    )
    def list(self, search: str | None, limit: int | None) -> None:
        for folder in (None, "/a"):
            wanted = self.model.listed(folder, search)[:limit]
            assert list(self.store.list(limit=limit, folder=folder, search=search)) == wanted

    @invariant()
    def all_is_there(self) -> None:
        for name in ("one", "two", "three"):
            thread = self.model.named(name)
            assert self.store.find(name) == (thread.info if thread else None)
            assert (self.store.holder(name) is not None) == self.model.held(name)
        for key, thread in self.model.threads.items():
            records = self.store.load(key)
            assert list(records) == [thread.records[index] for index in sorted(thread.records)]
            assert load_history(self.store, thread.info).damage == ()
            for file in FILES:
                assert self.store.content(key, digest(file)) == thread.contents.get(digest(file))

    def _lease(self, pick: int) -> Lease:
        return self.leases[-1 - pick % min(4, len(self.leases))]

    def _info(self, lease: Lease) -> ThreadInfo:
        thread = self.model.threads.get(lease.thread.key)
        return thread.info if thread is not None else lease.thread

    def _append(
        self,
        lease: Lease,
        before: ThreadInfo,
        step: tuple[ThreadInfo, Record],
        contents: Mapping[str, bytes] = NO_CONTENTS,
    ) -> None:
        info, record = step
        if not self.model.owns(lease):
            wanted: type[Exception] | None = LeaseLostError
        elif before.head != self._info(lease).head:
            wanted = HeadMismatchError
        else:
            wanted = None
        if wanted is None:
            self.store.append(info, [record], before.head, lease, contents)
            self.model.append(info, record, contents)
        else:
            with pytest.raises(wanted):
                self.store.append(info, [record], before.head, lease, contents)


def model_test(
    make_store: Callable[[Path], Store],
    *,
    keeps_on_disk: bool = True,
    proves_death: bool = True,
    examples: int = 40,
    steps: int = 30,
    pass_time: Callable[[Path, float], None] | None = None,
    drop_store: Callable[[Path], None] | None = None,
) -> type:
    """Return a test case that drives the store of `make_store` and the model through `examples` random stories.

    Args:
        make_store: opens the store in the folder that it is given.
        keeps_on_disk: whether opening that folder again gives the same threads.
        proves_death: whether a lease of an owner that is proven dead is replaced at once.
        examples: the number of stories.
        steps: the most steps of a story.
        pass_time: lets seconds pass by the clock of the store of a folder, if it has one of its own (since 0.2).
        drop_store: removes what the store of a folder keeps elsewhere, after each story (since 0.2).
    """
    members: dict[str, object] = {
        "open_store": staticmethod(make_store),
        "keeps_on_disk": keeps_on_disk,
        "proves_death": proves_death,
    }
    if pass_time is not None:
        members["pass_time"] = staticmethod(pass_time)
    if drop_store is not None:
        members["drop_store"] = staticmethod(drop_store)
    machine: Any = type("StoreMachine", (StoreMachine,), members)
    case = machine.TestCase
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    return case  # type: ignore[no-any-return]
