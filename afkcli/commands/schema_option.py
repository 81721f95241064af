"""`--schema FILE|JSON`: reads the JSON Schema that the answer must match, before the run starts."""

from __future__ import annotations

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import JsonError, JsonObject, loads
from afkcli.core.contract.structured import MAX_SCHEMA_BYTES, usable_schema


def read_schema(given: str) -> JsonObject:
    """Return the schema in `given`: JSON if it begins with `{`, else the path of a file with JSON.

    Raises:
        UsageError: it cannot be read, or is not a usable JSON Schema.
    """
    is_json = given.lstrip().startswith("{")
    name = "--schema" if is_json else f"--schema {given}"
    try:
        schema = loads(given if is_json else _read(given), exactly=True)
    except JsonError as error:
        raise UsageError(f"{name} is not JSON: {error}") from None
    return usable_schema(schema, name)


def _read(path: str) -> str:
    """Return the text of a file, or of a pipe as the shell's `<(...)` makes it."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            data = file.read(MAX_SCHEMA_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"--schema {path} cannot be read: {why}; give a file, or JSON that begins with '{{'") from None
    if len(data) > MAX_SCHEMA_BYTES:
        raise UsageError(f"--schema {path} is longer than {MAX_SCHEMA_BYTES // 1024} KiB; use a smaller one")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"--schema {path} is not JSON: it is not UTF-8") from None
