"""What the parts of the store contract share: how a store is made, how its time passes, how it is dropped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from afkcli.core.contract.protocols import Record, Store
from afkcli.testing.store_steps import ShiftedTime

PICTURE = b"\x89PNG\r\n\x1a\n\x00 not much of a picture"


class StoreCase:
    """How the tests of `StoreContract` use a store; see the head of `afkcli.testing.store_contract`."""

    keeps_on_disk: ClassVar[bool] = True
    proves_death: ClassVar[bool] = True
    has_own_clock: ClassVar[bool] = False
    """Whether leases are timed by a clock that is not that of this machine, as by that of a server. Since: 0.2."""

    def make_store(self, path: Path) -> Store:
        """Open the store in the folder `path`."""
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        """Let `seconds` pass by the store's clock."""
        self._time.advance(seconds)

    def drop_store(self, path: Path) -> None:
        """Remove what the store of `path` keeps elsewhere; called once after each test. Since: 0.2."""

    def cut_connections(self, path: Path) -> None:
        """End all connections of the store of `path` to its server, as a restart of the server does. Since: 0.2."""

    def lose_power(self, path: Path) -> None:
        """Let the server of the store of `path` lose its power, and start it again. Since: 0.2.

        What the store has not made durable must be lost by it.
        """

    @pytest.fixture(autouse=True)
    def _shifted_time(self) -> Iterator[None]:
        self._time = ShiftedTime()
        self._time.start()
        yield
        self._time.stop()

    @pytest.fixture(autouse=True)
    def store_path(self, tmp_path: Path) -> Iterator[Path]:
        """The folder of the store of a test; what the store keeps elsewhere is dropped at the end."""
        path = tmp_path / "store"
        yield path
        self.drop_store(path)

    @pytest.fixture
    def store(self, store_path: Path) -> Iterator[Store]:
        store = self.make_store(store_path)
        yield store
        store.close()


def kinds_of(records: Sequence[Record]) -> list[str]:
    """Return the kinds of records, in their order."""
    return [record.kind.value for record in records]


def in_threads(target: Callable[[], None], count: int) -> None:
    """Call `target` in `count` operating-system threads at once; none of the calls may fail."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            target()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
