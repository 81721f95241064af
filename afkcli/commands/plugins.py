"""`afk plugins`: which there are, and what is wrong with them."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.commands.plugin_check import check_plugins
from afkcli.commands.subcommands import Subcommands
from afkcli.core.contract.errors import AfkError, UsageError
from afkcli.loading.discovery import KINDS, KNOWN, Plugins, foreign_afk_package
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout
from afkcli.screen.styles import DIM, RED
from afkcli.screen.tables import write_table
from afkcli.wiring.assembly import load_setup

OK, BROKEN, CONFLICT, MISSING = "ok", "broken", "conflict", "not installed"
_STYLES = {BROKEN: RED, CONFLICT: RED, MISSING: DIM}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One plugin, model prefix or plugin file in the list; `reason` says what is wrong, or what to do."""

    id: str
    distribution: str
    version: str
    status: str
    reason: str | None = None


_COMMANDS = {"install": "plugin_install:install", "uninstall": "plugin_install:uninstall"}


@click.group(
    "plugins",
    cls=Subcommands,
    places=_COMMANDS,
    invoke_without_command=True,
    examples=(
        ("afk plugins", "all plugins, and what is wrong with them"),
        ("afk plugins install afk-tools-mcp", "install one"),
        ("afk plugins --plugin my_tool.py", "a plugin file, too"),
    ),
)
@click.option(
    "--plugin",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Look at this plugin file too; may be given more than once.",
)
@json_option
@click.pass_context
def command(ctx: click.Context, files: tuple[Path, ...], as_json: bool) -> None:
    """List plugins, and what is wrong with them: each module is imported once, the SDK that it uses is not."""
    if ctx.invoked_subcommand is not None:
        if files or as_json:
            raise UsageError(f"options before {ctx.invoked_subcommand!r} belong to the list; put yours after it")
        return
    messages, stdout = Messages(invocation()), Stdout(invocation())
    setup = load_setup(invocation(), project=True)
    broken = [_broken_file(path, reason) for path, reason in setup.plugins.failures.items()]
    broken += add_files(setup.plugins, files)
    rows = [_without_secrets(row) for row in plugin_rows(setup.plugins) + broken]
    if as_json:
        stdout.objects({"v": 1, "type": "plugin", **_fields(row)} for row in rows)
    else:
        write_rows(stdout, rows)
    foreign = foreign_afk_package()
    if foreign is not None:
        messages.warn(foreign_line(foreign))


def write_rows(stdout: Stdout, rows: Sequence[Row]) -> None:
    """Write a table of plugins; nothing where there is no row."""
    if rows:
        table = [(row.id, row.distribution, row.version, _status(row)) for row in rows]
        styles = [_STYLES.get(row.status, "") for row in rows]
        write_table(stdout, ("ID", "DISTRIBUTION", "VERSION", "STATUS"), table, styles, spare=(1, 2))


def add_files(plugins: Plugins, files: Sequence[Path]) -> list[Row]:
    """Add plugin files, and return a row for each that cannot be used."""
    broken = []
    for path in files:
        try:
            plugins.add_file(path)
        except AfkError as error:
            broken.append(_broken_file(str(path), str(error)))
    return broken


def is_own_command(name: str) -> bool:
    """Return whether afk has a command of this name, which comes before that of a plugin."""
    if not name.isidentifier() or importlib.util.find_spec(f"afkcli.commands.{name}") is None:
        return False
    return hasattr(importlib.import_module(f"afkcli.commands.{name}"), "command")


def _broken_file(path: str, reason: str) -> Row:
    return Row(id=Path(path).stem, distribution=path, version="", status=BROKEN, reason=reason)


def plugin_rows(plugins: Plugins) -> list[Row]:
    """Return all plugins by kind and name, what conflicts, and what of ours is not installed."""
    found = sorted(plugins.found.values(), key=lambda plugin: (_order(plugin.kind), plugin.name))
    reasons = check_plugins([plugin for plugin in found if plugin.kind in KINDS])
    rows = []
    for plugin in found:
        reason = (
            reasons.get(plugin.id) if plugin.kind in KINDS else f"its kind is unknown; the kinds are {', '.join(KINDS)}"
        )
        status = BROKEN if reason else OK
        if plugin.kind == "command" and is_own_command(plugin.name):
            status, reason = CONFLICT, f"afk {plugin.name} is a command of afk's own, so this one is never called"
        rows.append(
            Row(
                id=plugin.id,
                distribution=plugin.distribution,
                version=plugin.version,
                status=status,
                reason=reason,
            )
        )
    for id_, reason in {**plugins.conflicts, **plugins.prefix_conflicts}.items():
        rows.append(Row(id=id_, distribution="", version="", status=CONFLICT, reason=reason))
    for id_, known in KNOWN.items():
        if id_ not in plugins.found and id_ not in plugins.conflicts:
            how = f"afk plugins install {known.distribution}"
            rows.append(Row(id=id_, distribution=known.distribution, version="", status=MISSING, reason=how))
    return rows


def foreign_line(distribution: str) -> str:
    """Return the line about another distribution that installs a package `afk`."""
    return (
        f"the distribution {distribution!r} also installs a package `afk`, so `import afk` may be that one;"
        f" uninstall it, or import `afkcli` instead"
    )


def _without_secrets(row: Row) -> Row:
    return replace(row, reason=invocation().secrets.mask(row.reason)) if row.reason else row


def _order(kind: str) -> int:
    return KINDS.index(kind) if kind in KINDS else len(KINDS)


def _status(row: Row) -> str:
    return f"{row.status}: {row.reason}" if row.reason else row.status


def _fields(row: Row) -> dict[str, str | None]:
    return {name: getattr(row, name) for name in Row.__slots__}
