"""The store's model test with crashes inside its calls: each call is either done or was never made."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from afk_store_disk.store import DiskStore
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from afkcli.core.protocols import LEASE_SECONDS
from afkcli.owner import current_owner
from afkcli.testing.store_model import StoreMachine, _Thread
from afkcli.testing.store_steps import with_journal, with_question, with_seal
from tests.faults.plugins import faulty_store

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="crashes are those of forked processes")

_pick = st.integers(min_value=0, max_value=1000)
_point = st.integers(min_value=1, max_value=14)


class CrashingStoreMachine(StoreMachine):
    """Beside the steps of the model test: a process makes one call and is killed at a point between its writes."""

    open_store = staticmethod(DiskStore)  # type: ignore[assignment]

    @precondition(lambda self: self.leases)
    @rule(pick=_pick, point=_point, text=st.sampled_from(["zebra", "y" * 9000]))
    def die_in_append(self, pick: int, point: int, text: str) -> None:
        lease = self._lease(pick)
        if not self.model.owns(lease):
            return
        before = self._info(lease)
        self.second += 1
        if before.open_turn is None:
            after, record = with_question(before, text, self.second)
        elif pick % 2:
            after, record = with_journal(before, text)
        else:
            after, record = with_seal(before, [], self.second)
        done = _in_a_process(point, lambda: self.store.append(after, [record], before.head, lease))
        found = self.store.find(before.name)
        assert found == after if done else found in (before, after)
        if found == after:
            self.model.append(after, record)

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
    """Make the call in a process that dies at the point; return whether it came through."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.environ["AFK_TEST_KILL_AT"] = str(point)
            faulty_store.FaultyConnection.passed = 0
            faulty_store.watch_connections()  # the store opens a connection of its own after a fork
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
