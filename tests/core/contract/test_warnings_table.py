"""A warning is one row: what our code raises and what the reference says are compared with the table."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from afkcli.core.contract.warnings import WARNINGS
from tests.docs.pages import REPOSITORY, sections

CODES = {row.code for row in WARNINGS}
TABLE = REPOSITORY / "afkcli" / "core" / "contract" / "warnings.py"
SOURCES = [
    path
    for folder in (REPOSITORY / "afkcli", *REPOSITORY.glob("plugins/*/afk_*"))
    for path in sorted(folder.rglob("*.py"))
    if path != TABLE and (REPOSITORY / "afkcli" / "testing") not in path.parents
]


def text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def first(node: ast.expr) -> list[ast.expr]:
    """Return the first item of a tuple of two, where the node is one."""
    return node.elts[:1] if isinstance(node, ast.Tuple) and len(node.elts) == 2 else []


def codes(node: ast.AST) -> list[ast.expr]:
    """Return the expression of a code in `warn(code, line)`, `ModelWarning(code, line)` and lists of `(code, line)`."""
    if isinstance(node, ast.Call) and name(node.func) in ("warn", "ModelWarning", "Warned"):
        given = [*node.args, *(item.value for item in node.keywords if item.arg == "code")]
        return given[:1] if len(node.args) + len(node.keywords) > 1 else []  # `Messages.warn(line)` has no code
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
        return [item for arg in node.args for item in first(arg) if "warning" in name(node.func.value)]
    if isinstance(node, ast.Assign) and [name(item) for item in first(node.targets[0])] == ["code"]:
        return first(node.value)
    return first(node.elt) if isinstance(node, ast.ListComp) else []


def raised(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        yield from filter(None, map(text, codes(node)))


def words(tree: ast.AST) -> set[str]:
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def parsed(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_every_code_that_our_code_raises_is_in_the_table() -> None:
    unknown = {(str(path.relative_to(REPOSITORY)), code) for path in SOURCES for code in raised(parsed(path))}

    assert {item for item in unknown if item[1] not in CODES} == set()
    assert len({code for _, code in unknown}) > len(CODES) // 2  # the search finds what it looks for


def test_every_code_of_the_table_is_raised_somewhere() -> None:
    used = set().union(*(words(parsed(path)) for path in SOURCES))

    assert used >= CODES


def test_the_reference_has_the_codes_and_words_of_the_table() -> None:
    section = sections(REPOSITORY / "docs" / "reference" / "events.md")["warning"].partition("| code |")[2]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", section, flags=re.MULTILINE)

    assert rows == [(row.code, row.when + (f" (since {row.since})" if row.since != "0.1" else "")) for row in WARNINGS]


def test_a_code_is_there_once() -> None:
    assert len(CODES) == len(WARNINGS)
