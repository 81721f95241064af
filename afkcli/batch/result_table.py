"""Results as a table for a spreadsheet.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from afkcli.core.contract.jsonform import dumps
from afkcli.screen.spreadsheets import csv_line

COLUMNS = (
    "id",
    "state",
    "text",
    "output",
    "reason",
    "finish_reason",
    "error_kind",
    "error",
    "status",
    "model",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "steps",
    "attempts",
    "thread",
    "started",
    "ended",
    "metadata",
)


def header_line() -> str:
    """Return the names of the columns as a line."""
    return csv_line(*COLUMNS)


def table_line(row: Mapping[str, Any]) -> str:
    """Return a row of the results as a line; what is JSON in it is JSON in its cell."""
    error, usage = row["error"] or {}, row["usage"] or {}
    cells = {
        **row,
        "output": None if row["output"] is None else dumps(row["output"]),
        "error_kind": error.get("kind"),
        "error": error.get("message"),
        "status": error.get("status"),
        "input_tokens": usage.get("input_tokens"),
        "output_tokens": usage.get("output_tokens"),
        "metadata": dumps(row["metadata"]) if row.get("metadata") else None,
    }
    return csv_line(*(cells[name] for name in COLUMNS))
