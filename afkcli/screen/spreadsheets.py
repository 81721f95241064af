"""Lines of comma-separated values, which people open in a spreadsheet."""

from __future__ import annotations

import csv
import io
import re

_NUMBER = re.compile(r"[-+]?[0-9]+([.,][0-9]+)?([eE][-+]?[0-9]+)?")


def csv_line(*cells: object) -> str:
    """Return the cells as one line, without its newline; no text of them is taken for a formula
    (https://owasp.org/www-community/attacks/CSV_Injection). A number is none, and stays as it is."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([_plain(cell) if isinstance(cell, str) else cell for cell in cells])
    return line.getvalue()


def _plain(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") and not _NUMBER.fullmatch(text) else text
