"""The record of the project files that the user trusts, and what counts of a project file.

Trust applies to the real path, the owner and the SHA-256 of the file, of the files that it references, and of the files
that the programs which it starts name. When one of the first changes, the trust ends; a program is not started when one
of its own has changed. The prompts of the project are trusted with it, each with its own hashes: a prompt that has
changed is not used, and the rest is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from afkcli.config.binding import References, bind_starts, read_references, starts_of
from afkcli.config.checking import check_config
from afkcli.config.project import ProjectFile
from afkcli.config.reading import ConfigFile, parse_config, parse_toml
from afkcli.config.without_trust import without_trust
from afkcli.core.contract.errors import ConfigError
from afkcli.core.contract.structs import FrozenStruct
from afkcli.host.files import make_private_folder, replace_file
from afkcli.host.paths import state_dir
from afkcli.host.permissions import UnsafeFileError, read_own_file

_NAMED = 8  # how many ignored keys one line lists


class TrustState(StrEnum):
    """Whether the user trusts a project file; a `CHANGED` one was trusted with other contents."""

    TRUSTED = "trusted"
    CHANGED = "changed"
    UNTRUSTED = "untrusted"
    REFUSED = "refused"


class Trusted(FrozenStruct, kw_only=True):
    """What the record has about a file that is trusted: the hashes of the files of its programs, by program and path.

    `references` are the files that it references, as they were read and compared with the record.
    """

    references: References
    starts: Mapping[str, Mapping[str, str]]


def project_config(
    file: ProjectFile, configured: Callable[[str], bool], user: Mapping[str, Any], record: Path
) -> ConfigFile:
    """Return the part of a project file that counts: all of it if it is trusted, else what needs no trust.

    Args:
        configured: whether the user has configured the provider of a model name.
        user: the table of the user's config, whose limits may be lowered.
        record: the record of trusted files.

    Raises:
        ConfigError: it is malformed.
    """
    if file.refused is not None:
        return ConfigFile(path=file.path, table={}, inert=(f"everything, because {file.refused}",))
    state, trusted = _compared(file, _read_record(record))
    if trusted is not None:
        table = parse_config(file.data, file.path)
        return ConfigFile(
            path=file.path, table=table, files=trusted.references.files, starts=trusted.starts, data=file.data
        )
    table, inert = without_trust(parse_toml(file.data, file.path), configured, user)
    check_config(table, file.data, file.path)
    return ConfigFile(
        path=file.path, table=table, inert=tuple(inert), changed=state is TrustState.CHANGED, data=file.data
    )


def inert_line(config: ConfigFile) -> str:
    """Return the line that lists the ignored keys of a project file."""
    names = ", ".join(config.inert[:_NAMED])
    more = f" and {len(config.inert) - _NAMED} more" if len(config.inert) > _NAMED else ""
    changed = " any more, because it or a file of it has changed" if config.changed else ""
    return f"{config.path} is not trusted{changed}, so this does not count: {names}{more}; see `afk trust`"


def trust_state(file: ProjectFile, record: Path) -> TrustState:
    """Return whether the user trusts the file as it is now, by the record at the path `record`.

    The files of the programs that it starts are read too. A run looks at these only when it starts the program.
    """
    state, trusted = _compared(file, _read_record(record))
    if trusted is not None and trusted.starts != _hashes_of_starts(file):
        return TrustState.CHANGED
    return state


def prompt_states(file: ProjectFile, record: Path, hashes: Mapping[str, Mapping[str, str]]) -> dict[str, TrustState]:
    """Return whether the user trusts each prompt of a project as it is now.

    Args:
        file: the project file.
        record: the record of trusted files.
        hashes: the hashes of a prompt's files, by its name.

    Since: 0.2.
    """
    known = _read_record(record)
    state, _ = _compared(file, known)
    before = _table(_table(known.get(str(file.path))).get("prompts"))
    return {
        name: state if state is not TrustState.TRUSTED or before.get(name) == now else _of_a_new_one(name, before)
        for name, now in hashes.items()
    }


def _of_a_new_one(name: str, before: Mapping[str, Any]) -> TrustState:
    return TrustState.CHANGED if name in before else TrustState.UNTRUSTED


def changed_files(file: ProjectFile, record: Path) -> list[str]:
    """Return the files that are not as they were when the file was trusted, those that are new included.

    It is empty for a file that was never trusted.
    """
    recorded = _read_record(record).get(str(file.path))
    if recorded is None or file.refused is not None:
        return []
    before = {**_table(recorded.get("references"))}
    now = dict(read_references(file).hashes)
    for hashes in _table(recorded.get("prompts")).values():
        before |= hashes
    for hashes in _hashes_of_prompts(file).values():
        now |= hashes
    for hashes in _table(recorded.get("starts")).values():
        before |= hashes
    for hashes in _hashes_of_starts(file).values():
        now |= hashes
    return sorted(path for path in {**before, **now} if before.get(path) != now.get(path))


def trusted_settings(file: ProjectFile, record: Path) -> dict[str, str]:
    """Return the hashes of the settings that were shown when the file was trusted last, by key."""
    return _table(_table(_read_record(record).get(str(file.path))).get("settings"))


def _compared(file: ProjectFile, record: Mapping[str, Any]) -> tuple[TrustState, Trusted | None]:
    """Return the state of a file, apart from the programs that it starts; and what is known of it if it is trusted."""
    if file.refused is not None:
        return TrustState.REFUSED, None
    recorded = record.get(str(file.path))
    if not isinstance(recorded, dict):
        return TrustState.UNTRUSTED, None
    try:
        references = read_references(file)
        starts = _table(recorded.get("starts"))
        same = _form(file, references).items() <= {"references": {}, **recorded}.items()
        if same and set(starts) == set(starts_of(parse_toml(file.data, file.path))):
            return TrustState.TRUSTED, Trusted(references=references, starts=starts)
    except ConfigError:  # a referenced file is missing or refused, or the file is no longer valid TOML
        pass
    return TrustState.CHANGED, None


def _form(file: ProjectFile, references: References) -> dict[str, Any]:
    """Return what the record has about a file, apart from the programs that it starts."""
    sha256 = hashlib.sha256(file.data).hexdigest()
    return {"owner": file.owner, "sha256": sha256, "references": dict(references.hashes)}


def _hashes_of_starts(file: ProjectFile) -> dict[str, dict[str, str]]:
    return {key: dict(bound.digests) for key, bound in bind_starts(file).items()}


def _hashes_of_prompts(file: ProjectFile) -> dict[str, dict[str, str]]:
    from afkcli.config.prompt_folders import project_prompts  # not at the top: a run without a prompt needs no YAML

    return {prompt.name: dict(prompt.hashes) for prompt in project_prompts(file) if prompt.hashes}


def fingerprint(file: ProjectFile) -> dict[str, Any]:
    """Return what trust applies to: the owner, and the SHA-256 of the file, of each file that it references, of those
    that the programs which it starts name, and of the prompts of the project.

    Raises:
        ConfigError: a referenced file cannot be read, or another user owns it or can write it.
    """
    form = _form(file, read_references(file))
    more = {"starts": _hashes_of_starts(file), "prompts": _hashes_of_prompts(file)}
    return {key: value for key, value in {**form, **more}.items() if value != {}}


def trust(
    file: ProjectFile, record: Path, seen: Mapping[str, Any] | None = None, settings: Mapping[str, str] | None = None
) -> None:
    """Write to the file `record` that the user trusts the file.

    Args:
        file: the file.
        record: the record of trusted files.
        seen: the `fingerprint` that was taken before the user was asked; by default it is taken now.
        settings: the hashes of the settings that were shown, by key.

    Raises:
        ConfigError: it is malformed, refused, or the record cannot be written.
    """
    if file.refused is not None:
        raise ConfigError(f"{file.path} cannot be trusted: {file.refused}")
    parse_config(file.data, file.path)
    trusted = _read_record(record)
    trusted[str(file.path)] = {**(seen or fingerprint(file)), **({"settings": dict(settings)} if settings else {})}
    _write_record(record, trusted)


def distrust(file: ProjectFile, record: Path) -> bool:
    """Remove the file from the file `record`; return whether it was trusted."""
    trusted = _read_record(record)
    known = trusted.pop(str(file.path), None) is not None
    if known:
        _write_record(record, trusted)
    return known


def record_file(environment: Mapping[str, str] | None = None) -> Path:
    """Return the path of the record of trusted files."""
    return state_dir(environment) / "trusted.toml"


def _read_record(path: Path) -> dict[str, Any]:
    try:
        return parse_toml(read_own_file(path), path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except UnsafeFileError as error:
        raise ConfigError(f"the record of trusted files {path} is not used: {error}") from None
    except OSError as error:
        raise ConfigError(f"the record of trusted files {path} cannot be read: {error.strerror}") from None


def _write_record(path: Path, trusted: Mapping[str, Any]) -> None:
    import tomli_w

    try:
        make_private_folder(path.parent)
        replace_file(path, [tomli_w.dumps(trusted)])
    except UnicodeEncodeError:
        raise ConfigError("a file whose path is not UTF-8 cannot be trusted; rename its folder") from None
    except OSError as error:
        raise ConfigError(f"the record of trusted files {path} cannot be written: {error.strerror}") from None


def _table(value: Any) -> dict[str, Any]:
    """Return `value` if it is a table, else an empty one."""
    return value if isinstance(value, dict) else {}
