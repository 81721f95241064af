"""Which value counts, and why: flags > AFK_* > the thread's last choice > afk.toml > the user's config > defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afkcli.config.reading import ConfigFile, relative_to
from afkcli.core.contract.errors import ConfigError
from afkcli.core.contract.structs import FrozenStruct, field, replace
from afkcli.core.contract.text import decoded
from afkcli.host.permissions import UnsafeFileError, read_own_file

if TYPE_CHECKING:  # a list of threads needs no limits
    from afkcli.core.contract.limits import FailSafeConfig
    from afkcli.core.contract.protocols import Price
    from afkcli.core.run.budgets import Budgets

DEFAULT_AGENT = "afk"
DEFAULT_STORE = "disk"
DEFAULT_SINKS = ("jsonl",)


class AgentConfig(FrozenStruct, kw_only=True):
    """An agent of the config; `source` is the file. Its instructions are `text` or those in `instructions_file`.

    `instructions_data` are the bytes of that file where they were read already: trust applies to these.
    """

    name: str
    source: str
    model: str | None = None
    text: str | None = None
    instructions_file: Path | None = None
    instructions_data: bytes | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    fallback_models: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()

    @property
    def instructions(self) -> str | None:
        """The instructions. The file is read here, so only for the agent that is used; `ConfigError` if that fails."""
        if self.instructions_file is None:
            return self.text
        try:
            data = self.instructions_data
            text = decoded(read_own_file(self.instructions_file) if data is None else data)
            return text.replace("\r\n", "\n").replace("\r", "\n")
        except UnsafeFileError as error:
            why = str(error)
        except OSError as error:
            why = str(error.strerror)
        except UnicodeDecodeError:
            why = "it is not UTF-8"
        raise ConfigError(
            f"the instructions_file {self.instructions_file} of agent {self.name!r} cannot be read: {why}"
        )


class Choice(FrozenStruct, kw_only=True):
    """A value, and its source in words for a person."""

    value: str
    source: str


class Config(FrozenStruct, kw_only=True):
    """The values of the config files; those of `project` count before those of `user`. `project` is None if unused."""

    user: ConfigFile
    project: ConfigFile | None = None

    @property
    def files(self) -> list[ConfigFile]:
        return [item for item in (self.project, self.user) if item is not None]

    def value(self, key: str) -> Choice | None:
        """Return the value of a top-level string key and the file that sets it."""
        return next(
            (Choice(value=item.table[key], source=str(item.path)) for item in self.files if key in item.table), None
        )

    def setting(self, key: str) -> Any:
        """Return the value of a top-level key, or None if no file sets it."""
        return next((item.table[key] for item in self.files if key in item.table), None)

    def plugin_table(self, section: str, name: str) -> dict[str, Any]:
        """Return the settings of a plugin, merged from both files; tables of tables (`servers.NAME`) by name."""
        merged: dict[str, Any] = {}
        for item in reversed(self.files):
            for key, value in item.table.get(section, {}).get(name, {}).items():
                before: Any = merged.get(key)
                both = is_tables(before) and is_tables(value)
                merged[key] = {**before, **value} if both else value
        return merged

    def place(self, section: str, name: str, *keys: str) -> str:
        """Return the file and line of a plugin's setting, or of its table; empty if no file has that table.

        Since: 0.2.
        """
        places = [item.place_of((section, name, *keys)) for item in self.files]
        depth, place = max(places, key=lambda found: found[0])  # the first of those with as many keys counts
        return place if depth > 1 else ""

    def configured(self, section: str) -> list[str]:
        """Return the names of the plugins that have a table in a section."""
        return list(dict.fromkeys(name for item in self.files for name in item.table.get(section, {})))

    def sink_names(self) -> list[str]:
        """Return the sinks in use: the default one and those that have a table, unless `enabled = false`."""
        names = list(DEFAULT_SINKS)
        for item in reversed(self.files):
            names += [name for name in item.table.get("sinks", {}) if name not in names]
        return [name for name in names if self.plugin_table("sinks", name).get("enabled", True)]

    def agents(self) -> dict[str, AgentConfig]:
        """Return all named agents; for each key, the project file counts before the user's config."""
        names = [name for item in self.files for name in item.table.get("agents", {})]
        return {name: self._agent(name, [_agent_table(item, name) for item in self.files]) for name in names}

    def default_agent(self) -> AgentConfig:
        """Return the agent that the top-level keys describe."""
        from afkcli.config.checking import AGENT_KEYS

        tables = [{key: item.table[key] for key in AGENT_KEYS if key in item.table} for item in self.files]
        agent = self._agent(DEFAULT_AGENT, tables)
        return replace(agent, model=None)  # the top-level model is chosen elsewhere, after the thread's model

    def _agent(self, name: str, tables: Sequence[Mapping[str, Any]]) -> AgentConfig:
        """Return the agent that `tables`, one from each of `files`, describe together, merged by key."""
        merged: dict[str, Any] = {}
        source = "default"
        for item, own in reversed(list(zip(self.files, tables, strict=True))):
            if not own:
                continue
            source = str(item.path)
            if "instructions" in own or "instructions_file" in own:
                merged["instructions"], merged["instructions_file"] = own.get("instructions"), None
            if "instructions_file" in own:
                path = merged["instructions_file"] = relative_to(item.path, own["instructions_file"])
                merged["instructions_data"] = item.files.get(path)
            for key in ("options", "extra", "limits", "context"):
                merged[key] = {**merged.get(key, {}), **own.get(key, {})}
            for key in ("model", "fallback_models", "tools"):
                merged[key] = own.get(key, merged.get(key))
        return AgentConfig(
            name=name,
            source=source,
            model=merged.get("model"),
            text=merged.get("instructions"),
            instructions_file=merged.get("instructions_file"),
            instructions_data=merged.get("instructions_data"),
            options=merged.get("options", {}),
            extra=merged.get("extra", {}),
            limits=merged.get("limits", {}),
            context=merged.get("context", {}),
            fallback_models=tuple(merged.get("fallback_models") or ()),
            tools=tuple(merged.get("tools") or ()),
        )

    def limits(self) -> dict[str, Any]:
        """Return the limits for every run; the project file counts before the user's config."""
        merged: dict[str, Any] = {}
        for item in reversed(self.files):
            merged.update(item.table.get("limits", {}))
        return merged

    def budgets(self) -> Budgets:
        """Return the budgets; the project file counts before the user's config."""
        from afkcli.core.run.budgets import Budgets

        merged: dict[str, Any] = {}
        for item in reversed(self.files):
            merged.update(item.table.get("budgets", {}))
        return Budgets(**merged)

    def keep_unnamed_days(self) -> int:
        """Return after how many days `afk threads gc` deletes unnamed threads, 0 for never.

        The user's own config alone decides: threads do not belong to a project.
        """
        return int(self.user.table.get("threads", {}).get("keep_unnamed_days", 0))

    def alias(self, name: str) -> str | None:
        """Return the full model name of a bare one in `[models]`, or None."""
        for item in self.files:
            if name in item.table.get("models", {}):
                return str(item.table["models"][name])
        return None

    def prices(self) -> dict[str, Price]:
        """Return the prices of `[prices."provider/model"]`."""
        from afkcli.core.contract.protocols import Price

        prices: dict[str, Price] = {}
        for item in reversed(self.files):
            for model, table in item.table.get("prices", {}).items():
                prices[model] = Price(**table)
        return prices

    def context(self) -> dict[str, Any]:
        """Return what `[context]` says for every run; the project file counts before the user's config."""
        merged: dict[str, Any] = {}
        for item in reversed(self.files):
            merged.update(item.table.get("context", {}))
        return merged

    def windows(self) -> dict[str, int]:
        """Return the windows of `[windows]`, by `provider/model`, in tokens."""
        merged: dict[str, int] = {}
        for item in reversed(self.files):
            merged.update(item.table.get("windows", {}))
        return merged

    def approval(self, key: str) -> Any:
        """Return a setting of `[approvals]`, or None if no file sets it."""
        tables = [item.table.get("approvals", {}) for item in self.files]
        return next((table[key] for table in tables if key in table), None)

    def plugin_files(self) -> dict[Path, bytes | None]:
        """Return the plugin files of `[plugins] paths`, with their bytes where these were read already."""
        return self._named_files("paths")

    def plugin_modules(self) -> dict[Path, bytes | None]:
        """Return the files of `[plugins] modules`, which the plugin files may import, as `plugin_files`."""
        return self._named_files("modules")

    def _named_files(self, key: str) -> dict[Path, bytes | None]:
        found: dict[Path, bytes | None] = {}
        for item in self.files:
            for text in item.table.get("plugins", {}).get(key, []):
                path = relative_to(item.path, text)
                found.setdefault(path, item.files.get(path))
        return found


def is_tables(value: object) -> bool:
    """Return whether a value of a config is a table of tables, each with a name."""
    return isinstance(value, dict) and bool(value) and all(isinstance(item, dict) for item in value.values())


def _agent_table(file: ConfigFile, name: str) -> Mapping[str, Any]:
    table: Mapping[str, Any] = file.table.get("agents", {}).get(name, {})
    return table


def fail_safe(limits: Mapping[str, Any], base: FailSafeConfig | None = None) -> FailSafeConfig:
    """Return the limits as a `FailSafeConfig`; with a cost limit of the config, an unknown price is refused."""
    import dataclasses

    from afkcli.core.contract.limits import FailSafeConfig

    names = {item.name for item in dataclasses.fields(FailSafeConfig)}
    known = {name: value for name, value in limits.items() if name in names}
    if "max_total_cost_usd" in known:
        known["on_unknown_price"] = "refuse"
    return dataclasses.replace(base or FailSafeConfig(), **known)


def environment_choice(variable: str, environment: Mapping[str, str]) -> Choice | None:
    """Return what an AFK_* variable says, if it is set."""
    value = environment.get(variable)
    return Choice(value=value, source=f"the environment variable {variable}") if value else None
