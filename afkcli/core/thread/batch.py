"""Several operations of one process on a store: in one transaction where the store can, else one call each."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

from afkcli.core.contract.errors import StoreError
from afkcli.core.contract.protocols import (
    Acquire,
    Add,
    Append,
    Lease,
    Operation,
    OperationResult,
    Release,
    Renew,
    Store,
)

T = TypeVar("T")


class Batch(NamedTuple):
    """Operations that are wanted together, in their order."""

    store: Store
    operations: Sequence[Operation]


Steps: TypeAlias = Generator[Batch, list[OperationResult], T]
"""Work that yields the operations it wants, is sent what became of each, and returns its own result at its end.

The store's worker puts what it wants into one transaction with the operations of other threads. Since: 0.2.
"""


def one(store: Store, operation: Operation) -> Steps[Lease | float | None]:
    """Have one operation carried out; return what its method returns, and raise what it raises."""
    (result,) = yield Batch(store, (operation,))
    if isinstance(result, Exception):
        raise result
    return result


def make_alone(steps: Steps[T]) -> T:
    """Carry out what `steps` want by itself, and return their result."""
    results: list[OperationResult] | None = None
    while True:
        try:
            batch = steps.send(results)  # type: ignore[arg-type]  # None begins a generator
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        results = apply(*batch)


def apply(store: Store, operations: Sequence[Operation]) -> list[OperationResult]:
    """Carry out `operations` in order, each on its own: one that fails fails alone.

    Returns:
        For each operation what the store's method returns, or the exception that it raised.
    """
    together = getattr(store, "apply", None)
    if together is None or len(operations) < 2:
        return [_alone(store, operation) for operation in operations]
    try:
        results = list(together(operations))
        if len(results) != len(operations):
            raise StoreError(f"the store returned {len(results)} results for {len(operations)} operations")
    except Exception as error:
        return [error] * len(operations)
    except BaseException as error:  # a store that calls sys.exit ends neither its worker nor afk
        return [StoreError(repr(error))] * len(operations)
    return results


def _alone(store: Store, operation: Operation) -> OperationResult:
    try:
        return carry_out(store, operation)
    except Exception as error:
        return error
    except BaseException as error:
        return StoreError(repr(error))


def carry_out(store: Store, operation: Operation) -> Lease | float | None:
    """Make the one call that `operation` is, and return what it returns; it raises what the call raises."""
    match operation:
        case Append():
            store.append(
                operation.thread, operation.records, operation.expected_head, operation.lease, operation.contents
            )
            return None
        case Acquire(name, owner, create, None):
            return store.acquire(name, owner, create=create)
        case Acquire(name, owner, create, key):
            return store.acquire(name, owner, create=create, key=key)
        case Renew():
            return store.renew(operation.lease)
        case Release():
            store.release(operation.lease)
            return None
        case Add():
            return store.add(operation.counter, operation.amount, operation.limit)
