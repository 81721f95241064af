"""What a person allowed for a whole thread: `always` for one call, and rules with patterns.

A permission has two parts. A `meta` record says what was allowed, so that it can be shown and removed. A counter of the
store, named by the thread's key and a hash of the permission, says that it was given here. Both have to be there: a
record may come from a file that others wrote, and a counter says nothing to a person.

Since: 0.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import canonical
from afkcli.core.contract.protocols import THREAD_SCHEMA, Lease, Record, RecordKind, Store, ThreadInfo
from afkcli.core.contract.rules import ApprovalRule, exact_pattern
from afkcli.core.contract.structs import replace
from afkcli.core.contract.tools import ValidArguments
from afkcli.core.thread.changes import Change, Permission, Revocation, allowed_body, revoked_body
from afkcli.core.thread.records import advance, next_record


def permission_of_call(call: ValidArguments) -> Permission:
    """Return the permission for one call: this tool as it is now, with exactly these arguments."""
    return Permission(tool=call.tool.name, arguments=call.given, exact=True, pins=(call.tool.fingerprint,))


def permission_of_rule(rule: ApprovalRule) -> Permission:
    """Return the permission for the calls that a rule allows."""
    return Permission(
        tool=rule.tool, arguments=dict(rule.arguments), pins=rule.pins, other_arguments=rule.other_arguments
    )


def rule_of(permission: Permission) -> ApprovalRule:
    """Return a permission as a rule, which for one call matches that call alone."""
    arguments = permission.arguments
    return ApprovalRule(
        tool=permission.tool,
        decision="allow",
        arguments={name: exact_pattern(value) for name, value in arguments.items()} if permission.exact else arguments,
        pins=permission.pins,
        other_arguments=permission.other_arguments and not permission.exact,
    )


def counter_name(thread_key: str, permission: Permission) -> str:
    """Return the name of the store's counter that says that a permission was given here."""
    if permission.exact:
        said = canonical([permission.tool, permission.pins[0], permission.arguments])
        return f"always:{thread_key}:{hashlib.sha256(said.encode()).hexdigest()}"
    said = canonical([permission.tool, list(permission.pins), permission.arguments, permission.other_arguments])
    return f"rule:{thread_key}:{hashlib.sha256(said.encode()).hexdigest()}"


def permissions(changes: Iterable[Change]) -> list[Permission]:
    """Return the permissions of a thread that were not removed, in order."""
    changes = tuple(changes)
    removed = {change.allowed for change in changes if isinstance(change, Revocation)}
    return [change for change in changes if isinstance(change, Permission) and change.record not in removed]


def is_given(store: Store, thread: ThreadInfo, permission: Permission) -> bool:
    """Return whether a permission was given in this store; one that came with an import was not."""
    return store.add(counter_name(thread.key, permission), 0.0) > 0


def with_permission(thread: ThreadInfo, permission: Permission) -> tuple[ThreadInfo, Record]:
    """Return `thread` as it is after a permission, and the record to append."""
    record = next_record(thread, RecordKind.META, thread.turns, allowed_body(permission))
    return replace(advance(thread, record), schema=THREAD_SCHEMA), record


def revoke(store: Store, lease: Lease, permission: Permission) -> Lease:
    """Remove a permission from the thread of `lease`, and return the lease with the thread as it is now.

    The counter goes first, so that nothing is allowed any more if this is interrupted between the two.

    Raises:
        UsageError: the thread is not such as this permission belongs to.
        StoreError, LeaseLostError: it was not removed.
    """
    if permission.record < 0:
        raise UsageError("this permission is not in the thread")
    counter = counter_name(lease.thread.key, permission)
    store.add(counter, -store.add(counter, 0.0))
    thread = lease.thread
    record = next_record(thread, RecordKind.META, thread.turns, revoked_body(permission))
    changed = replace(advance(thread, record), schema=THREAD_SCHEMA)
    store.append(changed, [record], thread.head, lease)
    return replace(lease, thread=changed)
