"""The store's model test with crashes and with a locked database: each call is either done or was never made."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import afk_store_disk.aside
import afk_store_disk.write_lock
import pytest
from afk_store_disk.store import DiskStore
from afk_store_disk.write_lock import LOCK_TIMEOUT
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from afkcli.core.contract.errors import StoreError
from afkcli.core.contract.messages import Role, text_message
from afkcli.core.contract.protocols import (
    LEASE_SECONDS,
    NO_CONTENTS,
    Append,
    Lease,
    Operation,
    Record,
    RecordKind,
    Release,
    ThreadInfo,
)
from afkcli.host.owner import current_owner
from afkcli.testing.store_model import FILES, StoreMachine, _Thread
from afkcli.testing.store_steps import digest, with_journal, with_question, with_seal
from tests.faults.plugins import faulty_store

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="crashes are those of forked processes")

FILE = FILES[-1]

_pick = st.integers(min_value=0, max_value=1000)
_texts = st.sampled_from(["zebra", "y" * 9000])
_point = st.integers(min_value=1, max_value=18)


class CrashingStoreMachine(StoreMachine):
    """Beside the steps of the model test: a process makes one call and is killed at a point between its writes."""

    open_store = staticmethod(DiskStore)  # type: ignore[assignment]

    def __init__(self) -> None:
        vars(afk_store_disk.write_lock)["LOCK_TIMEOUT"] = 0.03
        super().__init__()

    def teardown(self) -> None:
        super().teardown()
        vars(afk_store_disk.write_lock)["LOCK_TIMEOUT"] = LOCK_TIMEOUT

    @precondition(lambda self: self.leases)
    @rule(pick=_pick, texts=st.lists(_texts, min_size=1, max_size=3), renew=st.booleans(), seal=st.booleans())
    def write_while_locked(self, pick: int, texts: list[str], renew: bool, seal: bool) -> None:
        """Journal while another process holds the write lock; a seal is kept, though its call fails."""
        lease = self._lease(pick)
        if self.model.owns(lease) and self._info(lease).open_turn is None:
            return
        with self._locked():
            for text in texts:
                info = self._info(lease)
                self._append(lease, info, with_journal(info, text))
            if renew:
                self.renew(pick)
            if seal and self.model.owns(lease):
                before = self._info(lease)
                self.second += 1
                after, record = with_seal(before, [text_message(Role.USER, "zebra")], self.second)
                with pytest.raises(StoreError):
                    self.store.append(after, [record], before.head, lease)
                self.model.append(after, record, {})

    @precondition(lambda self: self.leases)
    @rule(pick=_pick, point=st.integers(min_value=1, max_value=4), text=_texts)
    def die_while_locked(self, pick: int, point: int, text: str) -> None:
        lease = self._lease(pick)
        before = self._info(lease)
        if not self.model.owns(lease) or before.open_turn is None:
            return
        after, record = with_journal(before, text)
        with self._locked():
            done = _in_a_process(point, lambda: self.store.append(after, [record], before.head, lease))
        found = self.store.find(before.name)
        assert found == after if done else found in (before, after)
        if found == after:
            self.model.append(after, record, {})
        else:
            self._forget_torn_line(lease)

    def _forget_torn_line(self, lease: Lease) -> None:
        """The lease of a process that was killed in a write is not used again: no other process has its token."""
        thread = self.model.threads[lease.thread.key]
        owner = replace(current_owner("run"), boot_id="an-earlier-boot")
        self._time.advance(LEASE_SECONDS * 1.1)
        taken = self.store.acquire(thread.info.name, owner)
        assert taken is not None
        assert taken.thread == thread.info
        thread.token, thread.expires, thread.owner_dead = taken.token, time.monotonic() + LEASE_SECONDS, True
        self.leases.append(taken)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the write lock, as a process does that is stopped while it writes."""
        holder = sqlite3.connect(Path(self._folder.name) / "store" / "threads.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            holder.execute("ROLLBACK")
            holder.close()

    @precondition(lambda self: self.leases)
    @rule(pick=_pick, point=_point, text=_texts)
    def die_in_append(self, pick: int, point: int, text: str) -> None:
        lease = self._lease(pick)
        if not self.model.owns(lease):
            return
        before = self._info(lease)
        self.second += 1
        contents = NO_CONTENTS
        if before.open_turn is None:
            after, record = with_question(before, text, self.second)
            contents = {digest(FILE): FILE}
        elif pick % 2:
            after, record = with_journal(before, text)
        else:
            after, record = with_seal(before, [], self.second)
        done = _in_a_process(point, lambda: self.store.append(after, [record], before.head, lease, contents))
        found = self.store.find(before.name)
        assert found == after if done else found in (before, after)
        if found == after:
            self.model.append(after, record, contents)

    @precondition(lambda self: self.leases)
    @rule(picks=st.lists(_pick, min_size=2, max_size=4), point=st.integers(min_value=1, max_value=30), text=_texts)
    def die_in_a_batch(self, picks: list[int], point: int, text: str) -> None:
        """The next steps of several threads, and the end of a lease, are written all or none."""
        leases = {lease.thread.key: lease for lease in map(self._lease, picks) if self.model.owns(lease)}
        self.second += 1
        steps: list[tuple[Lease, ThreadInfo, tuple[ThreadInfo, Record]]] = []
        for pick, lease in zip(picks, leases.values(), strict=False):
            before = self._info(lease)
            if before.open_turn is None:
                steps.append((lease, before, with_question(before, text, self.second)))
            elif pick % 2:
                steps.append((lease, before, with_journal(before, text)))
            else:
                steps.append((lease, before, with_seal(before, [], self.second)))
        operations: list[Operation] = [
            Append(after, [record], before.head, lease) for lease, before, (after, record) in steps
        ]
        released = [lease for lease, _, (_, record) in steps if record.kind is RecordKind.SEAL]
        operations += map(Release, released)
        done = _in_a_process(point, lambda: self.store.apply(operations))  # type: ignore[attr-defined]
        written = [self.store.find(before.name) == after for _, before, (after, _) in steps]
        assert len(set(written)) <= 1
        assert all(written) or not done
        if not all(written):
            return
        for _, _, (after, record) in steps:
            self.model.append(after, record)
        for lease in released:
            self.model.threads[lease.thread.key].token = ""

    @precondition(lambda self: self.leases)
    @rule(pick=_pick, point=_point)
    def die_in_delete(self, pick: int, point: int) -> None:
        lease = self._lease(pick)
        if not self.model.owns(lease):
            return
        before = self._info(lease)
        done = _in_a_process(point, lambda: self.store.delete(lease))
        found = self.store.find(before.name)
        assert found is None if done else found in (before, None)
        if found is None:
            del self.model.threads[before.key]

    @rule(name=st.sampled_from(["one", "two", "three"]), point=_point)
    def die_in_acquire(self, name: str, point: int) -> None:
        thread = self.model.named(name)
        if thread is not None and self.model.held(name):
            return
        owner = replace(current_owner("run"), boot_id="an-earlier-boot")
        _in_a_process(point, lambda: self.store.acquire(name, owner))
        found, holder = self.store.find(name), self.store.holder(name)
        if found is None:
            assert thread is None
            return
        if thread is None:
            thread = self.model.threads[found.key] = _Thread(info=found)
        if holder is not None:
            thread.token, thread.expires, thread.owner_dead = "of the dead", time.monotonic() + LEASE_SECONDS, True


def _in_a_process(point: int, call: Callable[[], object]) -> bool:
    """Make the call in a process that dies at the point; return whether the call ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.environ["AFK_TEST_KILL_AT"] = str(point)
            faulty_store.FaultyConnection.passed = 0
            vars(afk_store_disk.aside)["is_this_process"] = lambda owner: True  # it writes with its parent's lease
            faulty_store.watch()  # the store opens a connection of its own after a fork
            call()
            code = 0
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), f"the call failed in its process ({status})"
    return status == 0


_case: Any = CrashingStoreMachine.TestCase
_case.settings = settings(
    max_examples=20, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
TestDiskStoreWithCrashes = _case
