"""Runs single tests of the store contract on stores that were given one fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from afkcli.testing.store_contract import StoreContract
from afkcli.testing.store_processes import OtherProcess

Test = Callable[[StoreContract, Path], None]


def in_processes(test: Callable[..., None]) -> Test:
    """Return a test that starts another process, as one that is given a path alone."""

    def run(contract: StoreContract, path: Path) -> None:
        started: list[OtherProcess] = []

        def start(*steps: Callable[..., object]) -> OtherProcess:
            started.append(OtherProcess(lambda: contract.make_store(path), *steps))
            return started[-1]

        try:
            test(contract, path, start)
        finally:
            for process in started:
                process.close()

    return run


def on_a_store(test: Callable[..., None]) -> Test:
    """Return a test that is given a store, as one that is given a path."""

    def run(contract: StoreContract, path: Path) -> None:
        store = contract.make_store(path)
        try:
            test(contract, store)
        finally:
            store.close()

    return run
