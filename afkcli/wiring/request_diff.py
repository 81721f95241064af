"""What differs between the request of a recording and the one that a replay would send, for a person."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from afkcli.core.contract.credentials import MASK
from afkcli.core.contract.jsonform import Json, JsonObject
from afkcli.core.contract.structs import FrozenStruct
from afkcli.wiring.recording_form import each_text

CONTEXT_LINES = 3
MAX_DIFF_LINES = 400
_NEAR_SECONDS = 3600.0
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:?\d\d)?")
_LINE_END = re.compile(r"(?<!\\)((?:\\\\)*\\n)(?!\")")


class Identity(FrozenStruct, kw_only=True):
    """What is of one run alone: texts by the mark that takes their place, and when it started (RFC 3339)."""

    names: Mapping[str, str]
    started: str


class Difference(FrozenStruct, kw_only=True):
    """A difference: the path of the first value that differs, as in `messages[2].parts[0].text`, and all as a diff."""

    path: str
    diff: str


def identity_of(run_id: str, thread_id: str, thread_key: str, started: str) -> Identity:
    """Return what is of one run alone. The name of a thread is, if it is the id of a run."""
    names = {run_id: "<run>", thread_key: "<thread>"}
    return Identity(names={text: mark for text, mark in names.items() if text}, started=started)


def difference(
    recorded: JsonObject, now: JsonObject, identities: tuple[Identity, Identity], names: tuple[str, str]
) -> Difference | None:
    """Return what differs between two requests, beside what is of one run alone; None if nothing does.

    Args:
        recorded: the request of the recording. The mark of a secret in it stands for any text.
        now: the request that would be sent.
        identities: what is of the recorded run, and of this one.
        names: what the diff calls the two.
    """
    if recorded == now:
        return None
    now = _as_obj(_with_masks(recorded, now))
    before, after = (_normalised(form, identity) for form, identity in zip((recorded, now), identities, strict=True))
    if before == after:
        return None
    lines = list(difflib.unified_diff(_lines(before), _lines(after), *names, n=CONTEXT_LINES, lineterm=""))
    left_out = len(lines) - MAX_DIFF_LINES
    if left_out > 0:
        lines = [*lines[:MAX_DIFF_LINES], f"... {left_out} more lines"]
    return Difference(path=next(_paths(before, after, ""), "") or "the request", diff="\n".join(lines) + "\n")


def _as_obj(value: Json) -> JsonObject:
    assert isinstance(value, dict)
    return value


def _with_masks(recorded: Json, now: Json) -> Json:
    """Return `now` with the texts of `recorded` in which a secret was masked, where they fit."""
    if isinstance(recorded, str) and isinstance(now, str):
        if MASK not in recorded or recorded == now:
            return now
        return recorded if _fits(recorded.split(MASK), now) else now
    if isinstance(recorded, list) and isinstance(now, list):
        more = now[len(recorded) :]
        return [*map(_with_masks, recorded, now[: len(recorded)]), *more]
    if isinstance(recorded, dict) and isinstance(now, dict):
        return {key: _with_masks(recorded.get(key), value) for key, value in now.items()}
    return now


def _fits(pieces: Sequence[str], text: str) -> bool:
    """Return whether a text begins with the first piece, ends with the last one, and has the others between them."""
    first, *middle, last = pieces
    at, end = len(first), len(text) - len(last)
    if not (text.startswith(first) and text.endswith(last)):
        return False
    for piece in middle:
        found = text.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return at <= end


def _normalised(form: JsonObject, identity: Identity) -> JsonObject:
    """Return a request with marks in the place of the ids of its calls, and of what is of one run alone."""
    ids: dict[str, str] = {}

    def without_id(part: JsonObject) -> JsonObject:
        if part.get("type") not in ("tool_call", "tool_result"):
            return part
        return {**part, "id": ids.setdefault(str(part.get("id")), f"<call {len(ids) + 1}>")}

    messages = [
        {**message, "parts": [without_id(part) for part in message.get("parts") or ()]}
        for message in form.get("messages") or ()
    ]
    started = _seconds(identity.started)

    def time_mark(found: re.Match[str]) -> str:
        seconds = _seconds(found[0])
        near = started is not None and seconds is not None and abs(seconds - started) < _NEAR_SECONDS
        return "<time>" if near else found[0]

    def change(text: str) -> str:
        for name, mark in identity.names.items():
            text = text.replace(name, mark)
        return _TIME.sub(time_mark, text)

    return _as_obj(each_text({**form, "messages": messages}, change))


def _seconds(text: str) -> float | None:
    """Return the seconds since the epoch of an RFC 3339 time, in UTC if it names no zone; None if it is not one."""
    try:
        moment = datetime.fromisoformat(text.upper())
        return (moment if moment.tzinfo is not None else datetime.fromisoformat(f"{text.upper()}+00:00")).timestamp()
    except ValueError:
        return None


def _lines(form: JsonObject) -> list[str]:
    """Return a request as lines of JSON; a text of several lines takes several, so that a diff shows which."""
    lines: list[str] = []
    for line in json.dumps(form, indent=2, ensure_ascii=False, sort_keys=True).split("\n"):
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        lines += _LINE_END.sub(rf"\1\n{indent}", line).split("\n")
    return lines


def _paths(before: Json, after: Json, path: str) -> Iterator[str]:
    """Yield the paths of the values that differ, in their order."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}, key=lambda name: (_ORDER.get(name, len(_ORDER)), name)):
            if before.get(key) != after.get(key) or (key in before) != (key in after):
                yield from _paths(before.get(key), after.get(key), f"{path}.{key}" if path else key)
    elif isinstance(before, list) and isinstance(after, list):
        for number in range(max(len(before), len(after))):
            one, other = (items[number] if number < len(items) else None for items in (before, after))
            if one != other:
                yield from _paths(one, other, f"{path}[{number}]")
    elif before != after:
        yield path


_ORDER = {"model": 0, "messages": 1, "tools": 2, "options": 3, "extra": 4, "output_schema": 5}
