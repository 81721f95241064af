"""`afk config`: the files, and the effective values with their sources."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from afkcli.commands.base import Group
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.config.project import find_project_file
from afkcli.config.trust import TrustState, record_file, trust_state
from afkcli.core.contract.jsonform import dumps
from afkcli.host.keys import keys_file
from afkcli.host.paths import config_file, data_dir, state_dir
from afkcli.host.permissions import UnsafeFileError, read_own_file
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout
from afkcli.screen.tables import write_table

_EXPLAINED = {
    TrustState.TRUSTED: "trusted",
    TrustState.CHANGED: "changed since it was trusted",
    TrustState.UNTRUSTED: "not trusted: only what is harmless counts",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file or folder that afk uses; `trust` is None if it needs no trust."""

    what: str
    path: Path
    exists: bool
    trust: str | None = None


@click.group(
    "config",
    cls=Group,
    examples=(
        ("afk config path", "the files and folders"),
        ("afk config show", "every value that is set"),
    ),
)
def command() -> None:
    """Show the config and where it comes from."""


@command.command(
    "path",
    examples=(("afk config path", "the files and folders, a line each"),),
)
@json_option
def path(as_json: bool) -> None:
    """Show which files and folders afk uses, which of them exist, and whether the project's afk.toml is trusted."""
    stdout = Stdout(invocation())
    found = places()
    if as_json:
        stdout.objects(
            {
                "v": 1,
                "type": "path",
                "what": place.what,
                "path": str(place.path),
                "exists": place.exists,
                "trust": place.trust,
            }
            for place in found
        )
    else:
        rows = [(place.what, _status(place), str(place.path)) for place in found]
        write_table(stdout, ("WHAT", "STATUS", "PATH"), rows)
    if all(place.what != "project config" for place in found):
        Messages(invocation()).say("there is no afk.toml here or above; `afk init` writes one")


def places() -> list[Place]:
    """Return the files and folders that afk uses."""
    environment = invocation().environment
    user = config_file(environment)
    found = [Place(what="user config", path=user, exists=user.exists(), trust=_user_trust(user))]
    record = record_file(environment)
    project = find_project_file(invocation().folder)
    if project is not None:
        state = trust_state(project, record)
        trust = _EXPLAINED.get(state, f"refused: {project.refused}")
        found.append(Place(what="project config", path=project.path, exists=True, trust=trust))
    for what, place in (
        ("threads", data_dir(environment)),
        ("state", state_dir(environment)),
        ("trusted files", record),
        ("keys", keys_file(environment)),
    ):
        found.append(Place(what=what, path=place, exists=place.exists()))
    return found


def _user_trust(path: Path) -> str:
    try:
        read_own_file(path)
    except UnsafeFileError as error:
        return f"refused: {error}"
    except OSError:  # it is not there, or afk says elsewhere why it cannot be read
        pass
    return "trusted"


def _status(place: Place) -> str:
    if not place.exists:
        return "not there"
    return place.trust or "there"


@command.command(
    "show",
    examples=(
        ("afk config show", "every value, and where it is set"),
        ("afk config show --json", "the same as JSON"),
    ),
)
@json_option
def show(as_json: bool) -> None:
    """Show every value that is set, and where it is set; secrets are masked."""
    from afkcli.commands.effective import effective
    from afkcli.wiring.assembly import load_setup

    setup = load_setup(invocation(), project=True, notify=Messages(invocation()).say)
    values = effective(setup)
    stdout = Stdout(invocation())
    if as_json:
        stdout.objects(
            {"v": 1, "type": "value", "key": item.key, "value": item.value, "source": item.source} for item in values
        )
    else:
        write_table(stdout, ("KEY", "VALUE", "SOURCE"), [(item.key, dumps(item.value), item.source) for item in values])
