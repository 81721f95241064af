"""`afk plugins install` and `afk plugins uninstall`: into the environment that afk runs in."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import click

from afkcli.commands.base import Command
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.commands.plugin_page import Page, page_of
from afkcli.core.contract.errors import AfkError, UnknownNameError, UsageError
from afkcli.core.contract.suggestions import near_names
from afkcli.host.ending import Ending
from afkcli.host.invocation import Invocation
from afkcli.installing.environment import DISTRIBUTION, Environment, find_environment, normalised
from afkcli.installing.installer import Fetched, Installer
from afkcli.installing.recovery import in_part, put_back, state_of
from afkcli.installing.requirements import constraints, needed, needed_by_others
from afkcli.loading.discovery import GROUP, KNOWN, MODELS_GROUP, Plugins, discover
from afkcli.loading.entry_points import claims
from afkcli.screen.display import shown_activity
from afkcli.screen.messages import Messages
from afkcli.screen.pages import show_all
from afkcli.screen.questions import confirmed
from afkcli.screen.streams import Stdout

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
_dry_run = click.option("--dry-run", is_flag=True, help="Only show what would be done.")


@click.command(
    "install",
    cls=Command,
    examples=(
        ("afk plugins install afk-tools-mcp", "fetch it, look at it, and install it"),
        ("afk plugins install --dry-run afk-tools-mcp", "only look at it"),
    ),
)
@click.argument("name", metavar="NAME")
@_yes
@_dry_run
@json_option
def install(name: str, yes: bool, dry_run: bool, as_json: bool) -> Ending:
    """Install the plugin NAME, or the file of a wheel, into the environment that afk runs in.

    A wheel is fetched first, and what it declares is shown; none of its code runs before you agree. It is installed by
    what made the environment: pip, pipx or uv. What afk itself needs keeps its version.
    """
    start = invocation()
    wheel = _wheel_or_name(name)
    environment = find_environment(start.environment, name)
    messages = Messages(start)
    with tempfile.TemporaryDirectory(prefix="afk-install-") as folder:
        plugins = discover(start)
        installer = _installer(environment, start, Path(folder), plugins)
        if wheel is None:
            messages.say(f"fetching {name} with {environment.tool}")
        with shown_activity(start, messages, f"fetching {name}"):
            fetched = installer.take(wheel) if wheel is not None else installer.fetch(name)
        page = page_of(fetched.declared, environment, plugins)
        _refuse_useless(page, name)
        if wheel is None and page.installed == fetched.declared.version:
            messages.say(f"{fetched.declared.name} {page.installed} is installed already; there is no newer wheel")
            return _end(start, page, {}, as_json=as_json)
        with shown_activity(start, messages, "looking up what it needs"):
            planned = installer.plan(fetched)
        if not show_all(start, list(page.lines(planned, environment))):
            messages.say("it is not installed")
            return Ending(2)
        if dry_run:
            messages.say("nothing was installed: --dry-run")
            return _end(start, page, planned, as_json=as_json, is_done=False)
        if not confirmed(start, f"Install {fetched.declared.name} {fetched.declared.version}?", yes=yes):
            messages.say("it is not installed")
            return Ending(2)
        with shown_activity(start, messages, "installing"):
            names = {normalised(fetched.declared.name), *planned}
            changed = _changed_by(installer, lambda: installer.install(fetched, planned), names, fetched.declared.files)
    return _installed(start, environment, fetched, page, changed, as_json=as_json)


@click.command(
    "uninstall",
    cls=Command,
    examples=(("afk plugins uninstall afk-tools-mcp", "its settings stay in the config"),),
)
@click.argument("name", metavar="NAME")
@_yes
@_dry_run
@json_option
def uninstall(name: str, yes: bool, dry_run: bool, as_json: bool) -> Ending:
    """Uninstall the plugin NAME from the environment that afk runs in. Only plugins of afk are uninstalled."""
    start = invocation()
    messages = Messages(start)
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is not the name of a distribution, such as afk-tools-mcp")
    ids = _plugins_of(name)
    environment = find_environment(start.environment, name, install=False)
    others = needed_by_others(name)
    if others:
        raise UsageError(f"{name} is needed by {', '.join(others)}; uninstall that first")
    version = environment.installed.get(normalised(name), "")
    stays = "what only it needed goes too" if environment.tool == "uv tool" else "what it needed stays installed"
    messages.say(f"{name} {version} has {', '.join(ids)}; {stays}")
    if dry_run:
        messages.say("nothing was uninstalled: --dry-run")
    elif not confirmed(start, f"Uninstall {name}?", yes=yes):
        messages.say("it is not uninstalled")
        return Ending(2)
    else:
        with tempfile.TemporaryDirectory(prefix="afk-install-") as folder:
            installer = _installer(environment, start, Path(folder), discover(start))
            _changed_by(installer, lambda: installer.uninstall(name), {normalised(name)})
        messages.say(f"uninstalled {name}; its settings in the config and what it stored are left as they are")
    if as_json:
        form = {"v": 1, "type": "plugin_uninstalled", "name": name, "version": version, "done": not dry_run}
        Stdout(start).objects([{**form, "plugins": ids}])
    return Ending(0)


def _wheel_or_name(given: str) -> Path | None:
    """Return the path of a wheel, or None for the name of a distribution.

    Raises:
        UsageError: it is neither: an installer could take it for an option, an address or a folder.
    """
    if given.endswith(".whl"):
        path = Path(given)
        if not path.is_file():
            raise UnknownNameError(f"there is no file {given}")
        return path
    if given.endswith((".tar.gz", ".zip", ".tar.bz2")):
        raise UsageError(
            f"{given} is an sdist; building it runs its code. Make a wheel of it: pip wheel --no-deps {given}"
        )
    meant = [known.distribution for id_, known in KNOWN.items() if given in (id_, id_.partition(".")[2])]
    if meant:
        raise UsageError(f"{given!r} is the name of a plugin; name what is installed: {' or '.join(meant)}")
    if not _NAME.fullmatch(given):
        raise UsageError(f"{given!r} is neither the name of a distribution, such as afk-tools-mcp, nor a file .whl")
    if normalised(given) == DISTRIBUTION:
        raise UsageError(f"{given} is afk itself; upgrade it by what installed it")
    return None


def _installer(environment: Environment, start: Invocation, folder: Path, plugins: Plugins) -> Installer:
    kept = {plugin.distribution for plugin in plugins.found.values() if plugin.file is None}
    return Installer(
        environment=environment, variables=start.environment, folder=folder, constraints=constraints(sorted(kept))
    )


def _refuse_useless(page: Page, name: str) -> None:
    """Refuse what is not a plugin, and what would damage afk."""
    declared = page.declared
    if not declared.plugins:
        near = near_names(name, [known.distribution for known in KNOWN.values()])
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(
            f"{declared.name} {declared.version} is not a plugin of afk: it declares no entry points of afk{hint}"
        )
    if page.damage:
        what = f"{declared.name} {declared.version} would overwrite {page.damage}"
        raise UsageError(f"{what}, which afk needs; it is not installed")


def _plugins_of(name: str) -> list[str]:
    """Return the ids of the plugins of a distribution that is installed.

    Raises:
        UsageError: it is not a plugin, or afk needs it.
    """
    found: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    for (group, id_), points in claims((GROUP, MODELS_GROUP)).items():
        for point in points:
            names[normalised(point.key)] = point.distribution.name
            if group == GROUP:
                found.setdefault(normalised(point.key), []).append(id_)
    if normalised(name) in needed():
        raise UsageError(f"{name} is not a plugin: afk itself needs it")
    if normalised(name) not in found:
        near = near_names(name, names.values())
        hint = f"did you mean {near[0]!r}?" if near else "`afk plugins` lists the plugins"
        raise UnknownNameError(f"no plugin named {name!r} is installed; {hint}")
    return sorted(found[normalised(name)])


def _changed_by(
    installer: Installer, work: Callable[[], None], names: Iterable[str], files: Sequence[str] = ()
) -> dict[str, tuple[str | None, str | None]]:
    """Do the work and return what changed: the versions before and after by name.

    If it fails, or is interrupted, the environment is put back, and the error says what could not be.
    """
    before = state_of(installer.environment)
    try:
        work()
    except KeyboardInterrupt:
        put_back(installer, before, names, files)
        raise
    except AfkError as error:
        left = put_back(installer, before, names, files)
        said = f"not everything could be put back: {'; '.join(left)}" if left else "the environment is as it was"
        raise type(error)("; ".join([str(error), said, *in_part(installer.environment)])) from None
    return _difference(before.versions, installer.environment.installed)


def _difference(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    names = sorted({*before, *now})
    return {name: (before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)}


def _words(changed: Mapping[str, tuple[str | None, str | None]]) -> str:
    forms = {name: f"{old or 'new'} -> {new or 'removed'}" for name, (old, new) in changed.items()}
    return ", ".join(f"{name} {form}" for name, form in forms.items())


def _installed(
    start: Invocation,
    environment: Environment,
    fetched: Fetched,
    page: Page,
    changed: dict[str, tuple[str | None, str | None]],
    *,
    as_json: bool,
) -> Ending:
    """Say what was installed, and check it: that it is what was shown, and that its plugins can be imported."""
    name, messages = normalised(fetched.declared.name), Messages(start)
    now = environment.installed.get(name)
    if now != fetched.declared.version or page.differs(environment):
        messages.error(
            f"what was installed is not what was shown: {name} {now or 'is not there'}; `afk plugins uninstall {name}`"
        )
        return Ending(1)
    others = {key: value for key, value in changed.items() if key != name}
    messages.say(f"installed {name} {now}{f'; also {_words(others)}' if others else ''}")
    return _end(start, page, {key: new or "" for key, (_, new) in changed.items()}, as_json=as_json)


def _end(start: Invocation, page: Page, versions: Mapping[str, str], *, as_json: bool, is_done: bool = True) -> Ending:
    """Write the rows of the plugins, or the JSON; the exit code is 1 if one cannot be used."""
    from afkcli.commands.plugins import OK, plugin_rows, write_rows

    rows = []
    if is_done:
        own = normalised(page.declared.name)
        rows = [
            row for row in plugin_rows(discover(start)) if normalised(row.distribution) == own or row.id in page.ids
        ]
    stdout = Stdout(start)
    if as_json:
        form = {"v": 1, "type": "plugin_installed", "done": is_done, **page.as_json()}
        stdout.objects([{**form, "versions": dict(versions), "status": {row.id: row.status for row in rows}}])
    else:
        write_rows(stdout, rows)
    return Ending(0 if all(row.status == OK for row in rows) else 1)
