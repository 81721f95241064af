"""Which model a run has: by name, prefix, key, or the demonstration."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from afkcli.config.merging import Choice, Config
from afkcli.config.reading import ConfigFile
from afkcli.core.contract.errors import ConfigError, UnknownNameError
from afkcli.core.contract.structs import replace
from afkcli.host.invocation import Invocation
from afkcli.loading.discovery import KNOWN, KnownPlugin, Plugins, missing_line
from afkcli.wiring.setup import Setup

if TYPE_CHECKING:
    from afkcli.core.contract.protocols import ThreadInfo

DEMO_PROVIDER = "local"
NOTHING_NAMED = "nothing names another model"
"""Why the demonstration model answers. A thread does not keep it once something names another model."""


def full_model_name(setup: Setup, name: str) -> str:
    """Return `provider/model` for a name: as it is, by config, by provider, or by prefix.

    Raises:
        UnknownNameError: nothing claims it, or one of its two parts is empty.
    """
    name = setup.config.alias(name) or name
    if "/" in name:
        _refuse_empty_part(name)
        return name
    if f"provider.{name}" in setup.plugins.found or f"provider.{name}" in KNOWN:
        return f"{name}/"
    provider = setup.plugins.provider_of_prefix(name)
    if provider is None:
        from afkcli.wiring.known_models import near_models  # not at the top: a name is mostly right

        providers = setup.plugins.names("provider")
        with_slash = name.replace(":", "/", 1)  # `openai:gpt-5.2`, as other programs write it
        near = [known for known in near_models(setup, name) if known != name]
        if with_slash.partition("/")[0] in providers and with_slash.partition("/")[2].strip():
            near = [with_slash]
        hint = (
            f"did you mean {near[0]!r}?"
            if near
            else f"write it as provider/model (providers: {', '.join(providers) or 'none'}); `afk models` lists models"
        )
        raise UnknownNameError(f"unknown model {name!r}; {hint}")
    return f"{provider}/{name}"


def _refuse_empty_part(name: str) -> None:
    """Refuse `/model` and `provider/`: the first has no provider, and the second would be any model of it."""
    provider, _, model = name.partition("/")
    if not provider.strip():
        raise UnknownNameError(f"the model {name!r} has no provider; write it as provider/model")
    if not model.strip():
        raise UnknownNameError(
            f"the model {name!r} has no name after the provider; write it as provider/model, or as {provider!r} for "
            "the provider's default model"
        )


def choose_model(
    setup: Setup, explicit: Choice | None, thread: ThreadInfo | None, agent_model: Choice | None
) -> Choice:
    """Return the model of a run and why: what was named, the thread's, the config's, a key's, or the demonstration.

    Raises:
        UnknownNameError: what was named is no model.
        ConfigError: nothing names a model and the demonstration is forbidden or not installed.
    """
    last = Choice(value=thread.model, source="the thread's last turn") if thread and thread.model else None
    choice = explicit or last or agent_model or setup.config.value("model")
    if choice is None:
        recorded = setup.model_by_default()
        if recorded is not None:
            return Choice(value=recorded, source="the recording")
        return _model_of_key(setup) or _demonstration(setup)
    return replace(choice, value=full_model_name(setup, choice.value))


def _model_of_key(setup: Setup) -> Choice | None:
    """Return the default model of the first known provider that was given a key, a server or settings."""
    given = {id_.partition(".")[2]: why_given(setup, id_, plugin) for id_, plugin in KNOWN.items()}
    reasons = {name: why for name, why in given.items() if why is not None}
    if not reasons:  # a kept key does not change what a variable or the config decides
        reasons = {name: f"`afk keys` keeps the key {name!r}" for name in given if is_key_kept(setup, name)}
    if not reasons:
        return None
    provider, why = next(iter(reasons.items()))
    if len(reasons) > 1:
        others = ", ".join(list(reasons.values())[1:])
        setup.notify(f"using {provider}, because {why} (also: {others}); choose with -m")
    return Choice(value=f"{provider}/", source=why)


def why_given(setup: Setup, id_: str, plugin: KnownPlugin) -> str | None:
    """Return why a provider decides the model of a bare run, or None if the user has configured nothing for it."""
    kind, _, name = id_.partition(".")
    if kind != "provider" or name == DEMO_PROVIDER:
        return None
    variable = next(
        (item for item in (plugin.key, plugin.server) if item and setup.invocation.environment.get(item)), None
    )
    if variable is not None:
        return f"{variable} is set"
    return f"[providers.{name}] is in the config" if setup.config.plugin_table("providers", name) else None


def is_key_kept(setup: Setup, provider: str) -> bool:
    """Return whether the keys file has a key of a provider; `ConfigError` if that file cannot be used. Since: 0.2."""
    return any(name == provider or name.startswith(f"{provider}.") for name in setup.plugins.stored_keys())


def _demonstration(setup: Setup) -> Choice:
    """Return the embedded model for a run that names no other, and report that; or refuse it."""
    how = "name a model with -m, AFK_MODEL or in the config, or set OPENAI_API_KEY"
    if setup.invocation.environment.get("AFK_DEMO", "").lower() in ("off", "0", "false", "no"):
        raise ConfigError(f"no model is named, and AFK_DEMO=off forbids the embedded demonstration model; {how}")
    if f"provider.{DEMO_PROVIDER}" not in setup.plugins.found:
        missing = missing_line("provider", DEMO_PROVIDER, ())
        raise ConfigError(f"no model is named: {how}; to try afk without a key, {missing}")
    setup.notify(f"no model is named: answering with the small embedded demonstration model; {how}")
    return Choice(value=f"{DEMO_PROVIDER}/", source=NOTHING_NAMED)


def configured_models(invocation: Invocation, user: ConfigFile, plugins: Plugins) -> Callable[[str], bool]:
    """Return a function that says whether the user has configured the provider of a model, by a key or its table."""
    alone = Setup(config=Config(user=user), plugins=plugins, notify=lambda line: None, invocation=invocation)

    def configured(model: str) -> bool:
        try:
            provider = full_model_name(alone, model).partition("/")[0]
        except UnknownNameError:
            return False
        known = KNOWN.get(f"provider.{provider}")
        given = known is not None and why_given(alone, f"provider.{provider}", known) is not None
        named = given or provider == DEMO_PROVIDER or provider in user.table.get("providers", {})
        return named or is_key_kept(alone, provider)

    return configured
