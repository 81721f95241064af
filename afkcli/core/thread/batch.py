"""Several operations of one process on a store: in one transaction where the store can, else one call each."""

from __future__ import annotations

from collections.abc import Sequence

from afkcli.core.contract.errors import StoreError
from afkcli.core.contract.protocols import Add, Append, Lease, Operation, OperationResult, Renew, Store


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
        case Renew():
            return store.renew(operation.lease)
        case Add():
            return store.add(operation.counter, operation.amount, operation.limit)
