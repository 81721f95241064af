"""The JSON forms of what a store keeps beside the records: a thread's metadata, the holder of a lease, a usage.

What reads a usage is `usage_from_json` in result.py, which also takes what providers report in a wrong form.
Fields that a later version of afk added are ignored, so a store can read what a newer one has written.
"""

from __future__ import annotations

from afkcli.core.contract.jsonform import Json, JsonObject, to_plain
from afkcli.core.contract.protocols import Owner, ThreadInfo
from afkcli.core.contract.result import Usage
from afkcli.core.contract.typed_json import from_json


def thread_info_to_json(info: ThreadInfo) -> JsonObject:
    """Return the JSON form of a thread's metadata. Since: 0.2."""
    form: JsonObject = to_plain(info)
    return form


def thread_info_from_json(form: Json) -> ThreadInfo:
    """Return the thread's metadata in `form`; fields that a later version added are ignored. Since: 0.2.

    Raises:
        JsonError: a field is missing or of a wrong type.
    """
    return from_json(ThreadInfo, form)


def owner_to_json(owner: Owner) -> JsonObject:
    """Return the JSON form of the holder of a lease. Since: 0.2."""
    form: JsonObject = to_plain(owner)
    return form


def owner_from_json(form: Json) -> Owner:
    """Return the holder of a lease in `form`; raises as `thread_info_from_json`. Since: 0.2."""
    return from_json(Owner, form)


def usage_to_json(usage: Usage) -> JsonObject:
    """Return the JSON form of a usage. Since: 0.2."""
    form: JsonObject = to_plain(usage)
    return form
