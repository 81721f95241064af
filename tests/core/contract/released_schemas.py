"""Compares two JSON Schemas of events: what a reader of the first one would meet otherwise in the second.

Types of events and parts, fields and values of an enumeration may be added, and nothing else may change.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_OF_ANY = {"object", "array", "string", "integer", "number", "boolean", "null"}


class Comparison:
    """What differs between the schema `old` and the schema `new`, in `problems`, one line each."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self._old, self._new = old, new
        self._seen: set[tuple[int, int]] = set()
        self.problems = self._compare({"oneOf": old["oneOf"]}, {"oneOf": new["oneOf"]}, "event")

    def _compare(self, old: Schema, new: Schema, where: str) -> list[str]:
        old, new = _resolved(old, self._old), _resolved(new, self._new)
        if (id(old), id(new)) in self._seen:  # a part may hold parts
            return []
        self._seen.add((id(old), id(new)))
        if _is_any(old):
            return [] if _is_any(new) else [f"{where}: any JSON was allowed"]
        if (choices := _choices(old)) is not None:
            return self._choices_differ(choices, _choices(new) or [new], where)
        if _choices(new) is not None:
            return [f"{where}: it may be of other types now"]
        changed = [
            f"{where}: {name} was {old.get(name)!r}" for name in ("type", "const") if old.get(name) != new.get(name)
        ]
        if lost := set(old.get("enum", ())) - set(new.get("enum", ())):
            changed.append(f"{where}: {sorted(lost)} cannot be any more")
        if "items" in old:
            changed += self._compare(old["items"], new.get("items", {}), f"{where}[]")
        return [*changed, *self._fields_differ(old, new, where)]

    def _choices_differ(self, old: list[Schema], new: list[Schema], where: str) -> list[str]:
        problems, left = [], [_resolved(choice, self._new) for choice in new]
        for choice in (_resolved(choice, self._old) for choice in old):
            same = next((other for other in left if _kind(other) == _kind(choice)), None)
            if same is None:
                problems.append(f"{where}: {_kind(choice)} is gone")
                continue
            left.remove(same)
            problems += self._compare(choice, same, f"{where} {_kind(choice)}")
        return problems + [f"{where}: it may be {_kind(other)} now" for other in left if "const" not in _kind(other)]

    def _fields_differ(self, old: Schema, new: Schema, where: str) -> list[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        needed, needed_now = set(old.get("required", ())), set(new.get("required", ()))
        added = needed_now - before.keys() if "properties" in old else ()
        problems = [
            *(f"{where}: the field {name} is gone" for name in before.keys() - after.keys()),
            *(f"{where}: the field {name} may be missing now" for name in needed - needed_now),
            *(f"{where}: logs of the release do not have the field {name}; name it in ADDED" for name in added),
        ]
        if old.get("additionalProperties", True) != new.get("additionalProperties", True):
            problems.append(f"{where}: other fields were {old.get('additionalProperties', True)}")
        for name in before.keys() & after.keys():
            problems += self._compare(before[name], after[name], f"{where}.{name}")
        return problems


def _resolved(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _choices(schema: Schema) -> list[Schema] | None:
    return schema.get("oneOf", schema.get("anyOf"))


def _is_any(schema: Schema) -> bool:
    choices = _choices(schema)
    if choices is not None:
        return {choice.get("type") for choice in choices} == _OF_ANY
    return not schema.keys() - {"title", "description", "default"}


def _kind(schema: Schema) -> str:
    """Return what tells one choice from the others: the value of its field `type`, or its own type."""
    named = schema.get("properties", {}).get("type", {}).get("const")
    return f"const {named}" if named is not None else str(schema.get("type"))
