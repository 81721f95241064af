"""Checks that events are as their JSON Schema says: each one that a test emits in its process, or leaves in a log.

Most of the thousands of events of a test have the same shape: the same fields with values of the same types, and the
same words where only some are allowed. Each shape is validated once for each test process.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from afkcli.core.contract.event_schema import events_schema
from afkcli.core.contract.events import EVENT_TYPES, Event, event_to_json
from afkcli.core.contract.structs import msgspec
from afkcli.core.run.handle import EventChannel

_MAX_ITEMS = 1_000
_CHOICES = frozenset({"type", "decision", "finish_reason", "kind", "state", "role", "error_kind", "v"})
"""The fields in which only some values are allowed."""


class EventChecks:
    """Validates events against a schema; `problems` has a line for each that does not fit."""

    def __init__(self, schema: Mapping[str, Any] | None = None) -> None:
        """Check against `schema`; None for that of `afk events schema`, made when the first event comes."""
        self._schema = schema
        self._validators: dict[str, Draft202012Validator] = {}
        self._valid: set[object] = set()
        self.problems: list[str] = []

    def check(self, line: Mapping[str, Any]) -> None:
        """Check the object of a line."""
        shape = _shape(line)
        if shape in self._valid:
            return
        validator = self._validator(line.get("type"))
        errors = (
            ["its type is unknown"] if validator is None else [_said(error) for error in validator.iter_errors(line)]
        )
        if errors:
            self.problems.append(f"{line.get('type')}: {'; '.join(errors)}")
        else:
            self._valid.add(shape)

    def _validator(self, name: object) -> Draft202012Validator | None:
        if not isinstance(name, str) or name not in EVENT_TYPES:
            return None
        if name not in self._validators:
            self._schema = self._schema or events_schema()
            this = {"$ref": f"#/$defs/{EVENT_TYPES[name].__name__}", "$defs": self._schema["$defs"]}
            self._validators[name] = Draft202012Validator(this)
        return self._validators[name]

    def check_event(self, event: Event) -> None:
        """Check an event; one of plain fields, as most are, without its JSON form."""
        kinds = (event.type, *map(type, msgspec.structs.astuple(event)))
        is_plain = _PLAIN.issuperset(kinds[1:]) and event.type not in ("error", "approval_resolved")
        if is_plain and kinds in self._valid:
            return
        self.check(json.loads(event_to_json(event)))
        if is_plain:
            self._valid.add(kinds)

    def check_logs(self, files: Iterable[Path]) -> None:
        """Check the whole lines of logs that are events of a run; what else a test wrote there is left out."""
        for file in files:
            if not stat.S_ISREG(file.lstat().st_mode):  # a FIFO or a link that a test put there
                continue
            for line in file.read_bytes().splitlines(keepends=True):
                if line.startswith(b'{"v":1,"type":"') and line.endswith(b"\n") and b'"run_id"' in line:
                    self.check_line(line)

    def check_line(self, line: bytes) -> None:
        """Check a line that has all that every event carries."""
        try:
            form = json.loads(line)
        except ValueError:  # torn on purpose
            return
        if {"thread_key", "seq", "ts"} <= form.keys():
            self.check(form)


_PLAIN = frozenset({str, int, bool, type(None), float})


def _shape(value: Any) -> object:
    """Return what a value has in common with others of its shape; large JSON has that of its type."""
    if isinstance(value, dict) and len(value) < _MAX_ITEMS:
        return tuple((name, _value_or_shape(name, inner)) for name, inner in value.items())
    if isinstance(value, list) and len(value) < _MAX_ITEMS:
        return frozenset(map(_shape, value))
    return type(value)


def _value_or_shape(name: str, value: Any) -> object:
    return value if name in _CHOICES and isinstance(value, (str, int)) else _shape(value)


def _said(error: Any) -> str:
    return f"{'.'.join(map(str, error.absolute_path))}: {error.message[:300]}"


EVENTS = EventChecks()
"""The checks of this process."""


def check_emitted_events() -> None:
    """Check each event that a run of this process emits from now on."""
    put = EventChannel.put

    def checked(channel: EventChannel, event: Event, pieces: int = 1) -> None:
        EVENTS.check_event(event)
        put(channel, event, pieces)

    EventChannel.put = checked  # type: ignore[method-assign]
