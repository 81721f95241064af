"""The config and the plugins of this user on this machine, and what a run is made of by them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast, get_args

from afkcli.config.checking import pins_of
from afkcli.config.merging import (
    DEFAULT_AGENT,
    DEFAULT_SINKS,
    DEFAULT_STORE,
    AgentConfig,
    Choice,
    Config,
    environment_choice,
    fail_safe,
)
from afkcli.config.reading import ConfigFile, load_user_config
from afkcli.core.contract.agent import Agent
from afkcli.core.contract.errors import (
    AfkError,
    ConfigError,
    PluginContractError,
    PluginError,
    StoreError,
    UnknownNameError,
)
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.protocols import Provider, Sink, Store, ThreadInfo
from afkcli.core.contract.rules import ApprovalRule
from afkcli.core.contract.tools import Tool, Toolset
from afkcli.core.run.config import BusyMode, RunnerConfig, Wiring
from afkcli.host.invocation import Invocation
from afkcli.host.owner import current_owner
from afkcli.host.paths import config_file
from afkcli.host.rescue import rescue, rescue_more
from afkcli.loading.discovery import KNOWN, KnownPlugin, Plugins, discover, missing_line
from afkcli.wiring.prices import PriceList

DEMO_PROVIDER = "local"
NOTHING_NAMED = "nothing names another model"
"""Why the demonstration answers; a thread does not go on with it once something does name a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What the command line says about a run; None where it says nothing.

    `limits` has only the limits that were given, by their fields in `FailSafeConfig`. A value of `options` that is None
    removes what the config sets.
    """

    model: str | None = None
    agent: str | None = None
    instructions: str | None = None
    tools: tuple[str, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    schema: JsonObject | None = None


@dataclass(slots=True, kw_only=True)
class Setup:
    """The config and the plugins of this user on this machine.

    `notify` takes one line for a person.
    """

    config: Config
    plugins: Plugins
    notify: Callable[[str], None]
    invocation: Invocation
    file_plugins: list[str] = field(default_factory=list)

    # -- models and agents ---------------------------------------------------------------------------------------------

    def full_model_name(self, name: str) -> str:
        """Return `provider/model` for a name: as it is, by config, by provider, or by prefix.

        Raises:
            UnknownNameError: nothing claims it.
        """
        name = self.config.alias(name) or name
        if "/" in name:
            return name
        if f"provider.{name}" in self.plugins.found or f"provider.{name}" in KNOWN:
            return f"{name}/"
        provider = self.plugins.provider_of_prefix(name)
        if provider is None:
            known = ", ".join(self.plugins.names("provider")) or "none"
            raise UnknownNameError(f"unknown model {name!r}; write it as provider/model (providers: {known})")
        return f"{provider}/{name}"

    def choose_model(self, explicit: Choice | None, thread: ThreadInfo | None, agent_model: Choice | None) -> Choice:
        """Return the model of a run and why: what was named, the thread's, the config's, a key's, or the demonstration.

        Raises:
            ConfigError: nothing names a model and the demonstration is forbidden or not installed.
        """
        last = Choice(value=thread.model, source="the thread's last turn") if thread and thread.model else None
        choice = explicit or last or agent_model or self.config.value("model") or self._model_of_key()
        if choice is None:
            return self._demonstration()
        return replace(choice, value=self.full_model_name(choice.value))

    def _model_of_key(self) -> Choice | None:
        """Return the default model of the first known provider that was given a key, a server or settings."""
        given = {id_.partition(".")[2]: self.why_given(id_, plugin) for id_, plugin in KNOWN.items()}
        reasons = {name: why for name, why in given.items() if why is not None}
        if not reasons:
            return None
        provider, why = next(iter(reasons.items()))
        if len(reasons) > 1:
            others = ", ".join(list(reasons.values())[1:])
            self.notify(f"using {provider}, because {why} (also: {others}); choose with -m")
        return Choice(value=f"{provider}/", source=why)

    def why_given(self, id_: str, plugin: KnownPlugin) -> str | None:
        """Return why a provider names the model of a bare run, or None where the user has given it nothing."""
        kind, _, name = id_.partition(".")
        if kind != "provider" or name == DEMO_PROVIDER:
            return None
        variable = next(
            (item for item in (plugin.key, plugin.server) if item and self.invocation.environment.get(item)), None
        )
        if variable is not None:
            return f"{variable} is set"
        return f"[providers.{name}] is in the config" if self.config.plugin_table("providers", name) else None

    def _demonstration(self) -> Choice:
        """Return the embedded model, for a run for which nothing names another one; say so, or refuse it."""
        how = "name a model with -m, AFK_MODEL or in the config, or set OPENAI_API_KEY"
        if self.invocation.environment.get("AFK_DEMO", "").lower() in ("off", "0", "false", "no"):
            raise ConfigError(f"no model is named, and AFK_DEMO=off forbids the embedded demonstration model; {how}")
        if f"provider.{DEMO_PROVIDER}" not in self.plugins.found:
            missing = missing_line("provider", DEMO_PROVIDER, ())
            raise ConfigError(f"no model is named: {how}; to try afk without a key, {missing}")
        self.notify(f"no model is named: answering with the small embedded demonstration model; {how}")
        return Choice(value=f"{DEMO_PROVIDER}/", source=NOTHING_NAMED)

    def choose_agent(self, explicit: Choice | None, thread: ThreadInfo | None) -> AgentConfig:
        """Return the agent of a run: the one named, the thread's, the config's, or the default.

        Raises:
            UnknownNameError: the one named does not exist.
        """
        agents = {DEFAULT_AGENT: self.config.default_agent(), **self.config.agents()}
        configured = self.config.value("agent")
        if explicit is None and thread is not None and thread.agent is not None:
            if thread.agent in agents:
                return agents[thread.agent]
            self.notify(f"the thread's agent {thread.agent!r} is not in the config; going on with the default agent")
            return agents[DEFAULT_AGENT]
        choice = explicit or configured
        if choice is None:
            return agents[DEFAULT_AGENT]
        if choice.value not in agents:
            raise UnknownNameError(f"there is no agent {choice.value!r} (agents: {', '.join(sorted(agents))})")
        return agents[choice.value]

    def agent_and_model(self, flags: Flags, thread: ThreadInfo | None) -> tuple[AgentConfig, Choice]:
        """Return the agent of a run of the command line, and its model with the reason."""
        named = _choice(flags.agent, "--agent") or environment_choice("AFK_AGENT", self.invocation.environment)
        described = self.choose_agent(named, thread)
        own = Choice(value=described.model, source=f"the agent {described.name!r}") if described.model else None
        explicit = _choice(flags.model, "--model") or environment_choice("AFK_MODEL", self.invocation.environment)
        switched = named is not None and (thread is None or thread.agent != described.name)
        return described, self.choose_model(explicit or (own if switched else None), thread, own)

    def agent_for(self, flags: Flags, thread: ThreadInfo | None) -> Agent:
        """Return the agent that a run of the command line uses."""
        described, model = self.agent_and_model(flags, thread)
        fallback_models = tuple(self.full_model_name(name) for name in described.fallback_models)
        limits = {**self.config.limits(), **described.limits, **flags.limits}
        options = {**described.options, **flags.options}
        return Agent(
            name=described.name,
            model=model.value,
            remember_model=model.source != NOTHING_NAMED,
            instructions=flags.instructions if flags.instructions is not None else described.instructions or "",
            fail_safe=replace(fail_safe(limits), fallback_models=fallback_models),
            options={name: value for name, value in options.items() if value is not None},
            extra=described.extra,
            tools=tuple(dict.fromkeys((*described.tools, *flags.tools))),
            output_type=flags.schema,
        )

    # -- what plugins make ---------------------------------------------------------------------------------------------

    def make_provider(self, name: str) -> Provider:
        """Return a new provider; `UnknownNameError`, `PluginError` or the provider's own `AfkError` if it cannot be."""
        table = self.config.plugin_table("providers", name)
        return cast("Provider", self.plugins.make("provider", name, table, self.invocation.secrets))

    def open_store(self) -> Store:
        """Open the configured store.

        Raises:
            UnknownNameError: its plugin is not installed.
            PluginContractError: what its plugin offers does not fit the contract.
            StoreError: it cannot be opened, or its plugin is broken.
        """
        chosen = environment_choice("AFK_STORE", self.invocation.environment) or self.config.value("store")
        name = chosen.value if chosen else DEFAULT_STORE
        try:
            return cast(
                "Store",
                self.plugins.make("store", name, self.config.plugin_table("stores", name), self.invocation.secrets),
            )
        except PluginContractError:
            raise
        except PluginError as error:
            raise StoreError(str(error)) from error

    def make_tools(self, name: str) -> Sequence[Tool] | Toolset:
        """Return the tools of the plugin `tools.<name>`, or what can be asked for them; raises as `make_provider`."""
        made = self.plugins.make("tools", name, self.config.plugin_table("tools", name), self.invocation.secrets)
        return cast("Sequence[Tool] | Toolset", made)

    def make_sink(self, name: str) -> Sink:
        """Return a new sink; raises as `make_provider`."""
        table = self.config.plugin_table("sinks", name)
        table.pop("enabled", None)
        return cast("Sink", self.plugins.make("sink", name, table, self.invocation.secrets))

    def make_sinks(self) -> list[Sink]:
        """Return the sinks in use; one that cannot be made is said and left out."""
        names = self.config.sink_names()
        names += [id_.partition(".")[2] for id_ in self.file_plugins if id_.startswith("sink.")]
        sinks: list[Sink] = []
        for name in dict.fromkeys(names):
            known = f"sink.{name}" in (*self.plugins.found, *self.plugins.conflicts)
            if name in DEFAULT_SINKS and not known and not self.config.plugin_table("sinks", name):
                continue
            try:
                sinks.append(self.make_sink(name))
            except AfkError as error:
                self.notify(f"the sink {name!r} is left out: {error}")
        return sinks

    def runner_config(self, busy: str | None = None, busy_timeout: float | None = None) -> RunnerConfig:
        """Return how a runner behaves: as said, else as the config says, else by default.

        Raises:
            ConfigError: the config's `busy` is no mode, or a number of it is out of range.
        """
        said: dict[str, Any] = {}
        mode = busy or self.config.setting("busy")
        if mode is not None:
            if mode not in get_args(BusyMode):
                raise ConfigError(
                    f"busy = {mode!r} in the config is not known; use one of {', '.join(get_args(BusyMode))}"
                )
            said["busy"] = mode
        seconds = busy_timeout if busy_timeout is not None else self.config.setting("busy_timeout")
        if seconds is not None:
            if not (math.isfinite(seconds) and seconds >= 0):
                raise ConfigError(f"busy_timeout = {seconds} in the config is no time to wait; use 0 or more seconds")
            said["busy_timeout_s"] = float(seconds)
        for key, field_name in (("max_retries", "max_retries"), ("retry_delay", "retry_delay_s")):
            if self.config.setting(key) is not None:
                said[field_name] = self.config.setting(key)
        if self.config.approval("timeout") is not None:
            said["approval_timeout_s"] = float(self.config.approval("timeout"))
        try:
            return RunnerConfig(**said)
        except ConfigError as error:
            raise ConfigError(f"{error} (in the config: max_retries, retry_delay)") from None

    def wiring(self) -> Wiring:
        """Return what surrounds a runner of this setup."""
        return Wiring(
            owner=current_owner,
            notify=self.notify,
            redact=self.invocation.secrets.mask,
            rescue=rescue,
            rescue_more=rescue_more,
            folder=self.invocation.folder,
            budgets=self.config.budgets(),
            look_up_price=PriceList(self.config.prices()),
            rules=[
                ApprovalRule(
                    tool=rule["tool"],
                    decision=rule["decision"],
                    arguments=rule.get("arguments", {}),
                    pins=pins_of(rule),
                )
                for rule in self.config.approval_rules()
            ],
        )


def load_setup(
    invocation: Invocation | None = None,
    *,
    project: bool = False,
    plugin_files: Sequence[Path] = (),
    notify: Callable[[str], None] = lambda line: None,
) -> Setup:
    """Read the config and find the plugins.

    Args:
        invocation: whose environment, folder and secrets count; those of this process by default.
        project: whether the afk.toml at or above the working directory counts.
        plugin_files: plugin files that are used in addition.
        notify: takes one line for a person.

    Raises:
        ConfigError: a config file is malformed.
        PluginError: a plugin file cannot be used.
    """
    invocation = invocation or Invocation.of_process()
    user = load_user_config(config_file(invocation.environment))
    plugins = discover(invocation)
    project_file = _project(invocation, user, plugins, notify) if project else None
    config = Config(user=user, project=project_file)
    setup = Setup(config=config, plugins=plugins, notify=notify, invocation=invocation)
    for path in setup.config.plugin_paths():
        try:
            plugins.add_file(path)
        except AfkError as error:
            plugins.failures[str(path)] = str(error)
            notify(str(error))
    for path in plugin_files:
        setup.file_plugins += plugins.add_file(path)
    return setup


def configured_models(invocation: Invocation, user: ConfigFile, plugins: Plugins) -> Callable[[str], bool]:
    """Return what tells whether the user has configured the provider of a model: by a key, or by its table."""
    alone = Setup(config=Config(user=user), plugins=plugins, notify=lambda line: None, invocation=invocation)

    def configured(model: str) -> bool:
        try:
            provider = alone.full_model_name(model).partition("/")[0]
        except UnknownNameError:
            return False
        known = KNOWN.get(f"provider.{provider}")
        given = known is not None and alone.why_given(f"provider.{provider}", known) is not None
        return given or provider == DEMO_PROVIDER or provider in user.table.get("providers", {})

    return configured


def _project(
    invocation: Invocation, user: ConfigFile, plugins: Plugins, notify: Callable[[str], None]
) -> ConfigFile | None:
    from afkcli.config.trust import find_project_file, inert_line, project_config, record_file

    file = find_project_file(invocation.folder)
    if file is None:
        return None
    config = project_config(
        file, configured_models(invocation, user, plugins), user.table, record_file(invocation.environment)
    )
    if config.inert:
        notify(inert_line(config))
    return config


def _choice(value: str | None, source: str) -> Choice | None:
    return Choice(value=value, source=source) if value is not None else None
