"""`afk trust`: makes all of a project's afk.toml count."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from afkcli.commands.base import Command
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.commands.trust_page import Page, page_of
from afkcli.config.project import FILE_NAME, ProjectFile, find_project_file, read_project_file
from afkcli.config.prompt_folders import project_prompts, prompts_beside, shown_settings
from afkcli.config.reading import load_user_config, parse_config
from afkcli.config.trust import (
    TrustState,
    distrust,
    fingerprint,
    prompt_states,
    record_file,
    trust,
    trust_state,
)
from afkcli.config.without_trust import without_trust
from afkcli.core.contract.errors import EXIT_USAGE, ConfigError, UsageError
from afkcli.host.paths import config_file
from afkcli.loading.discovery import discover
from afkcli.screen.messages import Messages
from afkcli.screen.pages import show_all
from afkcli.screen.questions import can_ask
from afkcli.screen.streams import Stdout
from afkcli.wiring.models import configured_models

NOT_NEEDED = "not needed"


@click.command(
    "trust",
    cls=Command,
    examples=(
        ("afk trust", "show what would count, and ask"),
        ("afk trust --check", "exit code 0 if all of it counts"),
        ("afk trust --remove", "revoke trust"),
    ),
)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Only say whether all of the file counts: exit 0 if so, 2 if not.")
@click.option("--remove", is_flag=True, help="Revoke trust.")
@json_option
def command(file: Path | None, check: bool, remove: bool, as_json: bool) -> None:
    """Trust the afk.toml of this project, or FILE: all of it counts from then on, until it changes.

    It first shows what that turns on, and asks on a terminal. Trust covers the files that it references too, and the
    prompts in the folder `prompts` beside it.

    With --check the exit code is 0 when all of the file counts (it is trusted, or needs no trust) or there is none to
    trust, and 2 when it is not trusted, has changed since, is refused, or does not exist.
    """
    if check and remove:
        raise UsageError("--check and --remove exclude each other; use one of them")
    project = _project_file(file)
    if project is None:
        if not check:
            raise UsageError(f"there is no {FILE_NAME} here or above; `afk init` writes one")
        Messages(invocation()).say(f"there is no {FILE_NAME} here or above, so there is nothing to trust")
        return
    if remove:
        _remove(project, as_json)
    elif check:
        _check(project, as_json)
    else:
        _trust(project, as_json)


def _project_file(file: Path | None) -> ProjectFile | None:
    if file is None:
        return find_project_file(invocation().folder)
    path = file / FILE_NAME if file.is_dir() else file
    if path.name != FILE_NAME:
        raise UsageError(f"{path} is not called {FILE_NAME}, so afk would never read it")
    return read_project_file(path)


def _check(project: ProjectFile, as_json: bool) -> None:
    state, inert = _state(project)
    _report(project, state, inert, as_json, _page(project, inert) if as_json else None)
    if state in (TrustState.TRUSTED, NOT_NEEDED):
        return
    why = f"is refused: {project.refused}" if project.refused else f"is {_words(state)}; see `afk trust`"
    Messages(invocation()).error(f"{project.path} {why}")
    raise click.exceptions.Exit(EXIT_USAGE)


def _trust(project: ProjectFile, as_json: bool) -> None:
    messages = Messages(invocation())
    if project.refused is not None:
        raise UsageError(f"{project.path} cannot be trusted: {project.refused}")
    state, inert = _state(project)
    page: Page | None = None
    if state == TrustState.TRUSTED:
        messages.say(f"{project.path} is already trusted")
    elif state == NOT_NEEDED:
        messages.say(f"nothing in {project.path} needs trust: all of it counts already")
    else:
        seen = fingerprint(project)  # before it is shown: what is trusted is what was there then
        page = page_of(project, inert, record_file(invocation().environment))
        messages.say(f"trusting {project.path} turns on:")
        complete = show_all(invocation(), list(page.lines()))
        if not complete or (can_ask(invocation()) and not click.confirm(page.question(), err=True)):
            messages.say("it is not trusted")
            raise click.exceptions.Exit(EXIT_USAGE)
        trust(project, record_file(invocation().environment), seen, page.digests)
        state, inert = TrustState.TRUSTED, {}
        messages.say("trusted, until it changes")
    _report(project, state, inert, as_json, page)


def _remove(project: ProjectFile, as_json: bool) -> None:
    known = distrust(project, record_file(invocation().environment))
    Messages(invocation()).say(f"{project.path} is no longer trusted" if known else f"{project.path} was not trusted")
    _report(project, TrustState.UNTRUSTED, {}, as_json)


def _state(project: ProjectFile) -> tuple[str, dict[str, Any]]:
    """Return the state of the file, and the keys in it that do not count, with their values."""
    start = invocation()
    state = trust_state(project, record_file(start.environment))
    if state == TrustState.REFUSED:
        return state, {}
    prompts, are_trusted = _prompts(project)
    if state == TrustState.TRUSTED:
        if are_trusted:
            return state, {}
        state = TrustState.CHANGED
    user = load_user_config(config_file(start.environment))
    table = parse_config(project.data, project.path)
    _, inert = without_trust(table, configured_models(start, user, discover(start)), user.table)
    if prompts:
        inert = {**inert, "prompts": prompts}
    return (state, inert) if inert and not (are_trusted and set(inert) == {"prompts"}) else (NOT_NEEDED, {})


def _prompts(project: ProjectFile) -> tuple[dict[str, dict[str, Any]], bool]:
    """Return the prompts of the project as settings, by name, and whether all of them are trusted as they are."""
    if not prompts_beside(project.path).is_dir():
        return {}, True
    found = project_prompts(project)
    states = prompt_states(project, record_file(invocation().environment), {item.name: item.hashes for item in found})
    are_trusted = all(state is TrustState.TRUSTED for state in states.values())
    return {item.name: shown_settings(item) for item in found}, are_trusted


def _page(project: ProjectFile, inert: dict[str, Any]) -> Page | None:
    """Return what trust switches on; None where nothing is, or a file that the project references cannot be trusted."""
    with contextlib.suppress(ConfigError):
        return page_of(project, inert, record_file(invocation().environment)) if inert else None
    return None


def _report(project: ProjectFile, state: str, inert: dict[str, Any], as_json: bool, page: Page | None = None) -> None:
    if as_json:
        form: dict[str, Any] = {"v": 1, "type": "trust", "path": str(project.path), "state": str(state)}
        form |= {"inert": list(inert), "settings": page.as_json() if page else []}
        Stdout(invocation()).objects([form])


def _words(state: str) -> str:
    return "not trusted" if state == TrustState.UNTRUSTED else "changed since it was trusted"
