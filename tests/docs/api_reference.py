"""Writes the reference of the Python API and of the plugin contract from the docstrings and signatures of the code.

`python -m tests.docs.api_reference --write` writes the pages; without it the command says whether they are up to date.
"""

from __future__ import annotations

import ast
import enum
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import afkcli
import afkcli.plugin
from afkcli.core.contract.structs import FrozenStruct, Struct
from tests.docs.pages import REPOSITORY

COMMAND = "uv run python -m tests.docs.api_reference --write"
FOLDER = REPOSITORY / "docs" / "reference"

_SECTIONS = re.compile(r"^(Args|Raises|Returns|Yields):$", re.MULTILINE)
_TITLES = {"Args": "Takes", "Raises": "Raises", "Returns": "Returns", "Yields": "Yields"}
_ITEM = re.compile(r"^(\*{0,2}[\w., ]+):\s+(.*)", re.DOTALL)
_WIDTH = 100
_Function = ast.FunctionDef | ast.AsyncFunctionDef

PYTHON_HEAD = """\
# Python API

<!-- generated: {command} -->

Every public name of the module `afkcli`, from its docstring in the code. [Python](python.md) explains them with
examples. The names for plugins are in [Plugin API](plugin-api.md). A name, an argument or a field without "since" is as
old as version 0.1.
"""

PLUGIN_HEAD = """\
# Plugin API

<!-- generated: {command} -->

The hooks, and every name of the modules `afkcli.plugin` and `afkcli.testing`, from its docstring in the code.
[Write a plugin](../plugins.md) explains them with examples. The module `afkcli.plugin` is there since version 0.2. Each
name is imported when it is first used.
"""

HOOKS = ("afk_provider", "afk_store", "afk_sink", "afk_tools", "afk_engine", "afk_command")
# What has no `__all__`: the modules of `afkcli.testing` that the guide names, with what is used of them.
TESTING = {
    "afkcli.testing.model_server": ("ModelServer",),
    "afkcli.testing.model_script": ("Step", "ScriptedCall"),
    "afkcli.testing.batches_contract": ("BatchingProviderContract",),
    "afkcli.testing.provider_contract": ("ProviderContract", "ScriptedProviderContract"),
    "afkcli.testing.store_contract": ("StoreContract",),
    "afkcli.testing.engine_contract": ("EngineContract",),
    "afkcli.testing.store_model": ("model_test",),
    "afkcli.testing.settings": ("settings_for",),
}
FIRST = (
    "hookspecs",
    "core.contract.protocols",
    "core.contract.engine",
    "core.contract.messages",
    "core.contract.tools",
    "core.contract.tool_output",
    "core.contract.events",
    "core.contract.result",
    "core.contract.errors",
    "providers.base",
    "providers.failures",
)
"""The groups of the plugin page that come first; the others follow in the order of their modules."""

TITLES = {
    "base": "Base of a provider",
    "bound_starts": "Starts of programs that are trusted",
    "growing": "Growing text",
    "hookspecs": "Hooks",
    "jsonform": "JSON",
    "nondumpable": "Memory that others cannot read",
    "structs": "Kinds of records",
    "structured": "Structured answers",
    "supervised": "Programs",
    "tasks": "Tasks and threads",
    "typed_json": "Records from JSON",
}
"""The headings of groups whose module has a name that says too little."""

# Classes of objects that a caller gets, without having to import them.
GIVEN = {"afkcli.core.run.handle": ("RunHandle",), "afkcli.core.run.threads": ("Threads",)}


@dataclass(frozen=True)
class Entry:
    """A name of the reference: where it comes from, its object, and its definition in the code."""

    name: str
    module: ModuleType
    value: Any

    def node(self) -> ast.stmt | None:
        """Return the statement that defines the name in its module."""
        return next((node for node in _tree(self.module).body if self.name in _defined(node)), None)


def _tree(module: ModuleType) -> ast.Module:
    assert module.__file__ is not None
    return ast.parse(Path(module.__file__).read_text(encoding="utf-8"))


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ClassDef | _Function):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def entries(homes: dict[str, Sequence[str]]) -> Iterator[tuple[ModuleType, list[Entry]]]:
    """Yield the modules with their names, each name in the module that defines it."""
    found: dict[str, list[Entry]] = {}
    for home, names in homes.items():
        for name in names:
            value = getattr(import_module(home), name)
            own = getattr(value, "__module__", home) if inspect.isclass(value) or inspect.isfunction(value) else home
            module = import_module(own if own.startswith("afkcli.") else home)
            if not any(entry.name == name for entry in found.get(module.__name__, [])):
                found.setdefault(module.__name__, []).append(Entry(name, module, value))
    for home, its in found.items():
        yield import_module(home), its


def text_of(docstring: str | None) -> str:
    """Return a docstring as Markdown: its sections as lists."""
    if not docstring:
        return ""
    parts = _SECTIONS.split(inspect.cleandoc(docstring))
    pieces = [_paragraphs(parts[0])]
    for title, section in zip(parts[1::2], parts[2::2], strict=True):
        listed, rest = _split_section(section)
        pieces += [f"{_TITLES[title]}:\n\n{_items(listed)}", _paragraphs(rest)]
    return "\n\n".join(piece for piece in pieces if piece)


def _split_section(section: str) -> tuple[str, str]:
    """Return the indented lines of a section, and what follows them."""
    lines = section.strip("\n").splitlines()
    end = next((index for index, line in enumerate(lines) if line and not line.startswith(" ")), len(lines))
    return textwrap.dedent("\n".join(lines[:end])).strip(), "\n".join(lines[end:]).strip()


def _items(section: str) -> str:
    """Return `name: text` lines, each with its indented continuations, as a list."""
    lines = []
    for item in re.split(r"\n(?=\S)", section):
        found = _ITEM.match(" ".join(item.split()))
        lines.append(f"- `{found[1]}`: {found[2]}" if found else f"- {' '.join(item.split())}")
    return "\n".join(lines)


def _paragraphs(text: str) -> str:
    """Return paragraphs with "Since" set apart, indented code as blocks."""
    pieces = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if paragraph.startswith("    "):
            pieces.append(f"```text\n{textwrap.dedent(paragraph)}\n```")
        else:
            pieces.append(re.sub(r"(?:^|\s)Since:? (\d\.\d)\.$", r"\n\nSince \1.", paragraph).strip())
    return "\n\n".join(piece for piece in pieces if piece)


def _code(text: str) -> str:
    return f"<!-- signature -->\n```python\n{text}\n```"


def signature(node: _Function, *, method: bool = False) -> str:
    """Return the line that a function begins with, one argument a line where it is long."""
    start = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    arguments = node.args
    if method and arguments.args and arguments.args[0].arg in ("self", "cls"):
        arguments.args = arguments.args[1:]
    split = _split_arguments(ast.unparse(arguments))
    line = f"{start} {node.name}({', '.join(split)}){result}: ..."
    if len(line) <= _WIDTH:
        return line
    each = ",\n".join(f"    {argument}" for argument in split)
    return f"{start} {node.name}(\n{each},\n){result}: ..."


def _split_arguments(text: str) -> list[str]:
    """Return the arguments of a signature: its text cut at the commas that are in no brackets."""
    depth, found = 0, [""]
    for letter in text:
        depth += (letter in "[({") - (letter in "])}")
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += f" {letter} " if letter == "=" and depth == 0 and ":" in found[-1] else letter
    return [argument.strip() for argument in found]


def _bases(kind: type) -> list[type]:
    """Return a class and those of ours that it inherits from, but for the bases of all records."""
    return [base for base in kind.__mro__ if base.__module__.startswith("afkcli.") and "structs" not in base.__module__]


def _class_node(kind: type) -> ast.ClassDef:
    body = _tree(import_module(kind.__module__)).body
    return next(node for node in body if isinstance(node, ast.ClassDef) and node.name == kind.__name__)


def _fields(kind: type) -> list[str]:
    """Return the public fields of a record or an enumeration, as the code declares them."""
    found: dict[str, str] = {}
    for base in reversed(_bases(kind)):
        for node in _class_node(base).body:
            declared = isinstance(node, ast.AnnAssign) or (isinstance(node, ast.Assign) and issubclass(kind, enum.Enum))
            for name in _defined(node) if declared else ():
                if not name.startswith("_"):
                    found[name] = _declaration(node, import_module(base.__module__))
    return list(found.values())


def _declaration(node: ast.stmt, module: ModuleType) -> str:
    """Return a field as the code declares it, with the value of a default that is a constant or has a private form."""
    if isinstance(node, ast.AnnAssign):
        value = node.value
        if isinstance(value, ast.Call) and ast.unparse(value.func).startswith("_") and value.args:
            node.value = value.args[0]
        elif isinstance(value, ast.Name) and isinstance(getattr(module, value.id), int | float | str):
            node.value = ast.Constant(getattr(module, value.id))
    return ast.unparse(node)


def _methods(kind: type) -> Iterator[tuple[_Function, str]]:
    """Yield the public methods of a class with their docstrings, inherited ones included; those of tests left out."""
    found: dict[str, _Function] = {}
    told: dict[str, str] = {}
    for base in _bases(kind):
        for node in _class_node(base).body:
            if not isinstance(node, _Function) or node.name.startswith(("_", "test_")) or _is_hidden(node):
                continue
            found.setdefault(node.name, node)
            told[node.name] = told.get(node.name) or ast.get_docstring(node) or ""
    for name, node in found.items():
        yield node, told[name]


def _is_hidden(node: _Function) -> bool:
    """Return whether a method is an overload, which its implementation follows, or a fixture of a contract suite."""
    return any(ast.unparse(each).startswith(("overload", "pytest.fixture")) for each in node.decorator_list)


def _is_property(node: _Function) -> bool:
    return any(ast.unparse(decorator) in ("property", "cached_property") for decorator in node.decorator_list)


def _init(kind: type) -> list[str]:
    """Return how an object of a class without fields is made."""
    for base in _bases(kind):
        for node in _class_node(base).body:
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                return [signature(node)]
    return ["..."]


def class_text(entry: Entry) -> str:
    """Return the section of a class: how it is made, its fields, its docstring, its methods."""
    kind = entry.value
    bases = [base.__name__ for base in kind.__bases__ if base not in (object, Struct, FrozenStruct)]
    bases = [name for name in bases if name != kind.__name__]
    made = f"class {kind.__name__}({', '.join(bases)}):" if bases else f"class {kind.__name__}:"
    shown = "\n".join([made, *(textwrap.indent(line, "    ") for line in _fields(kind) or _init(kind))])
    pieces = [f"### `{entry.name}`", _code(shown), text_of(ast.get_docstring(_class_node(kind)))]
    for node, docstring in _methods(kind):
        name = f"`{entry.name}.{node.name}`"
        if _is_property(node):
            result = f" (`{ast.unparse(node.returns)}`)" if node.returns else ""
            pieces.append(f"{name}{result}: {text_of(docstring)}" if docstring else f"{name}{result}")
        else:
            pieces += [f"#### {name}", _code(signature(node, method=True)), text_of(docstring)]
    return "\n\n".join(piece for piece in pieces if piece)


def entry_text(entry: Entry) -> str:
    """Return the section of a name."""
    if inspect.isclass(entry.value) and entry.value.__module__.startswith("afkcli."):
        return class_text(entry)
    node = entry.node()
    if isinstance(node, _Function):
        pieces = [f"### `{entry.name}`", _code(signature(node)), text_of(ast.get_docstring(node))]
        return "\n\n".join(piece for piece in pieces if piece)
    return _value_text(entry, node)


def _value_text(entry: Entry, node: ast.stmt | None) -> str:
    """Return the section of a constant or a type alias: how it is defined, and the docstring below it."""
    if node:
        defined = ast.unparse(node)
    elif inspect.isclass(entry.value) or inspect.isroutine(entry.value):
        defined = f"from {entry.value.__module__} import {entry.name}"
    else:
        defined = f"{entry.name} = {entry.value!r}"
    body = _tree(entry.module).body
    after = body[body.index(found) + 1 :] if (found := _same(body, node)) else []
    docstring = ""
    if after and isinstance(after[0], ast.Expr) and isinstance(after[0].value, ast.Constant):
        docstring = str(after[0].value.value)
    return "\n\n".join(piece for piece in (f"### `{entry.name}`", _code(defined), text_of(docstring)) if piece)


def _same(body: Sequence[ast.stmt], node: ast.stmt | None) -> ast.stmt | None:
    return next((each for each in body if node is not None and each.lineno == node.lineno), None)


def _group(module: ModuleType, its: Sequence[Entry]) -> str:
    name = module.__name__.rpartition(".")[2]
    title = TITLES.get(name) or name.replace("_", " ").capitalize()
    lead = inspect.cleandoc(module.__doc__ or "").split("\n\n")[0]
    return "\n\n".join([f"## {title}", lead, *(entry_text(entry) for entry in its)])


def _written(head: str, groups: Sequence[str]) -> str:
    return "\n".join([head.format(command=COMMAND), *(f"{group}\n" for group in groups)])


def python_page() -> str:
    """Return the page about the names of `afkcli`, and about the objects that a caller gets."""
    homes: dict[str, list[str]] = {}
    for name in afkcli.__all__:
        if name != "__version__":
            homes.setdefault(afkcli._HOMES[name], []).append(name)
    given = {**homes, **GIVEN}
    its = [entry for _, group in entries(given) for entry in group]
    ordered = sorted(its, key=lambda entry: entry.name.lower())
    return _written(PYTHON_HEAD, ["## Names", *(entry_text(entry) for entry in ordered)])


def plugin_page() -> str:
    """Return the page about the hooks, the names of `afkcli.plugin` and those of `afkcli.testing`."""
    homes: dict[str, Sequence[str]] = {"afkcli.hookspecs": HOOKS}
    for name in sorted(afkcli.plugin.__all__, key=str.lower):
        home = afkcli.plugin._HOMES[name]
        homes[home] = [*homes.get(home, ()), name]
    groups = dict(entries(homes | TESTING))
    first = {f"afkcli.{name}": number for number, name in enumerate(FIRST)}
    order = sorted(groups, key=lambda module: (first.get(module.__name__, len(first)), module.__name__))
    return _written(PLUGIN_HEAD, [_group(module, groups[module]) for module in order])


def pages() -> dict[Path, str]:
    """Return the generated pages by their paths."""
    return {FOLDER / "api.md": python_page(), FOLDER / "plugin-api.md": plugin_page()}


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or say which of them differ; the exit code."""
    old = []
    for path, text in pages().items():
        if "--write" in arguments:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            old.append(path.name)
    if old:
        print(f"not up to date: {', '.join(old)}; run: {COMMAND}")
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
