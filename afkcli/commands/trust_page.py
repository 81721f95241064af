"""What `afk trust` shows before it asks: all that trust switches on, the risks first, and what changed."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afkcli.commands.effective import masked_address
from afkcli.config.binding import bind_starts, read_references, referenced_files
from afkcli.config.checking import PLUGIN_SECTIONS
from afkcli.config.consent import RISKS, Setting, is_hidden, switched_on
from afkcli.config.project import ProjectFile
from afkcli.config.reading import relative_to
from afkcli.config.trust import changed_files, trusted_settings
from afkcli.core.contract.credentials import MASK, SECRET_NAME
from afkcli.core.contract.errors import ConfigError
from afkcli.host.bound_starts import BoundFiles

IN_TURN = "what these read or start in turn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """All that trust in a project file switches on.

    Args:
        settings: the settings, the risks first.
        states: `new` or `changed` by the key of a setting, for those that are not as they were when the file was
            trusted last. It is empty if it never was.
        removed: the keys of settings that are no longer in the file.
        references: the files that the settings reference, by the key of the setting.
        starts: the files of the programs that the settings start, by the key of the setting.
        changed_files: the files among all of these that are not as they were.
        named: files of the project that other settings of plugins name, and which are not bound, by the key.
    """

    settings: Sequence[Setting]
    states: Mapping[str, str]
    removed: Sequence[str]
    references: Mapping[str, Sequence[str]]
    starts: Mapping[str, BoundFiles]
    changed_files: Sequence[str]
    named: Mapping[str, Sequence[str]]

    @property
    def risks(self) -> Counter[str]:
        """How many settings are a risk, by the risk."""
        return Counter(setting.risk for setting in self.settings if setting.risk is not None)

    @property
    def digests(self) -> dict[str, str]:
        """The hashes of the settings, to see later what changed."""
        return {setting.key: setting.digest for setting in self.settings}

    def question(self) -> str:
        """Return the question that is asked after all was shown."""
        total = self.risks.total()
        if not total:
            return "Trust it?"
        each = "; ".join(f"{risk}: {self.risks[risk]}" for risk in RISKS if self.risks[risk])
        return f"Trust it? It has {total} risky setting{'' if total == 1 else 's'} ({each})"

    def lines(self) -> Iterator[str]:
        """Yield the lines of the page, indented."""
        for risk in (*RISKS, None):
            settings = [setting for setting in self.settings if setting.risk == risk]
            if settings:
                yield f"  {risk or 'other settings'}:"
            for setting in settings:
                yield from self._setting(setting)
        for key in self.removed:
            yield f"  no longer in it: {key}"

    def _setting(self, setting: Setting) -> Iterator[str]:
        mark = f" ({self.states[setting.key]})" if setting.key in self.states else ""
        if isinstance(setting.value, dict) and setting.value:
            yield f"    {setting.key}{mark}"
            for name, value in setting.value.items():
                yield f"      {name} = {shown(name, value)}"
        else:
            yield f"    {setting.key} = {shown(setting.key.rpartition('.')[2], setting.value)}{mark}"
        bound = self.starts.get(setting.key)
        for path in (*self.references.get(setting.key, ()), *(bound.digests if bound else ())):
            yield f"      bound: {path}{' (changed)' if path in self.changed_files else ''}"
        for path in self.named.get(setting.key, ()):
            yield f"      not bound: {path}"
        if bound is not None:
            yield f"      not bound: {'; '.join([*bound.not_bound, IN_TURN])}"

    def as_json(self) -> list[dict[str, Any]]:
        """Return the settings as JSON."""
        return [
            {
                "key": setting.key,
                "risk": setting.risk,
                "state": self.states.get(setting.key),
                "bound": [
                    *self.references.get(setting.key, ()),
                    *(self.starts[setting.key].digests if setting.key in self.starts else ()),
                ],
                "not_bound": [
                    *self.named.get(setting.key, ()),
                    *(self.starts[setting.key].not_bound if setting.key in self.starts else ()),
                ],
            }
            for setting in self.settings
        ]


def page_of(project: ProjectFile, inert: Mapping[str, Any], record: Path) -> Page:
    """Return all that trust in a project file switches on.

    Args:
        project: the project file.
        inert: the keys that do not count without trust, with their values.
        record: the record of trusted files.

    Raises:
        ConfigError: a file that it references cannot be trusted.
    """
    read_references(project)
    settings = switched_on(project.path, inert)
    before = trusted_settings(project, record)
    states = {item.key: "changed" if item.key in before else "new" for item in settings} if before else {}
    states = {item.key: states[item.key] for item in settings if states and before.get(item.key) != item.digest}
    return Page(
        settings=settings,
        states=states,
        removed=sorted(set(before) - {item.key for item in settings}),
        references=_references(project, settings),
        starts=bind_starts(project),
        changed_files=_changed(project, record),
        named={item.key: found for item in settings if (found := _named_files(project, item))},
    )


def _references(project: ProjectFile, settings: Sequence[Setting]) -> dict[str, list[str]]:
    known = {str(path) for path in referenced_files(project)}
    found = {}
    for setting in settings:
        texts = setting.value if isinstance(setting.value, list) else [setting.value]
        paths = [str(relative_to(project.path, text)) for text in texts if isinstance(text, str)]
        if setting.key.rpartition(".")[2] in ("instructions_file", "paths", "modules"):
            found[setting.key] = [path for path in paths if path in known]
    return {**found, **_files_of_prompts(project, settings)}


def _files_of_prompts(project: ProjectFile, settings: Sequence[Setting]) -> dict[str, list[str]]:
    """Return the files of the prompts, by the key of their last setting."""
    last = {name: item.key for item in settings if (name := item.prompt) is not None}
    if not last:
        return {}
    from afkcli.config.prompt_folders import project_prompts

    return {last[found.name]: list(found.hashes) for found in project_prompts(project) if found.name in last}


def _named_files(project: ProjectFile, setting: Setting) -> list[str]:
    """Return the files that a plugin's setting names and that trust does not bind: weights of a model, for instance."""
    if setting.key.partition(".")[0] not in PLUGIN_SECTIONS or isinstance(setting.value, dict):
        return []
    values = setting.value if isinstance(setting.value, list) else [setting.value]
    paths = [str(relative_to(project.path, text)) for text in values if isinstance(text, str)]
    return [path for path in paths if os.path.isfile(path)]  # noqa: PTH113 - is_file raises for a long text


def _changed(project: ProjectFile, record: Path) -> list[str]:
    try:
        return changed_files(project, record)
    except ConfigError:
        return []


def shown(key: str, value: Any) -> str:
    """Return a value as JSON, in full. Only a single opaque word whose key says that it is a secret is masked."""
    return json.dumps(_masked(key, value), ensure_ascii=False)


def _masked(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _masked(name, item) for name, item in value.items()}
    if isinstance(value, list):
        return [_masked(key, item) for item in value]
    if isinstance(value, str):
        return MASK if is_hidden(key, value, SECRET_NAME.compiled) else masked_address(value)
    is_plain = isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value))
    return value if is_plain else str(value)  # dates, times and infinite numbers are TOML and not JSON
