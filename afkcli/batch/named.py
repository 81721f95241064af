"""Checks what prompts name (models, agents, schemas), each name once for the whole batch.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from afkcli.batch.asking import flags_of_prompt
from afkcli.batch.prompt import Defaults
from afkcli.batch.rows import RowError
from afkcli.config.merging import DEFAULT_AGENT
from afkcli.core.contract.errors import AfkError, UsageError
from afkcli.core.contract.jsonform import JsonError, JsonObject, canonical, loads
from afkcli.core.contract.structs import replace
from afkcli.core.contract.structured import MAX_SCHEMA_BYTES, usable_schema
from afkcli.loading.discovery import missing_line
from afkcli.wiring.agents import agent_for
from afkcli.wiring.models import full_model_name
from afkcli.wiring.plugin_objects import make_provider, make_provider_without_key
from afkcli.wiring.setup import Setup


def fixed_defaults(setup: Setup, defaults: Defaults) -> Defaults:
    """Return the defaults so that a worker with another config asks the model that they, or `AFK_MODEL`, name here.

    Raises:
        UnknownNameError: nothing claims the model.
    """
    model = defaults.model or setup.invocation.environment.get("AFK_MODEL")
    return replace(defaults, model=_with_name(setup, full_model_name(setup, model))) if model else defaults


def _with_name(setup: Setup, model: str) -> str:
    """Return `provider/model` for a model of the form `provider/`, or its provider if that has no default model."""
    provider, _, name = model.partition("/")
    if name or f"provider.{provider}" not in setup.plugins.found:
        return model.removesuffix("/")
    default = make_provider_without_key(setup, provider).default_model
    return f"{provider}/{default}" if default else provider


class NamedThings:
    """Checks what prompts name.

    Args:
        setup: the config and the plugins.
        folder: the folder to which paths in the prompts are relative.
        defaults: what the command line says for all prompts.
        needs_keys: whether the provider of each model must have its key: something is to be sent.
    """

    def __init__(self, setup: Setup, folder: Path, defaults: Defaults, *, needs_keys: bool = True) -> None:
        self._setup = setup
        self._folder = folder
        self._defaults = defaults
        self._needs_keys = needs_keys
        self._providers: set[str] = set()
        self._default_models: dict[str | None, str] = {}
        self._models: dict[tuple[str, str | None], str] = {}
        self._agents = {DEFAULT_AGENT, *setup.config.agents()}
        self._schemas: dict[str, JsonObject] = {}

    def model(self, name: str, provider: str | None = None) -> str:
        """Return `provider/model` for a name; `RowError` if it is unknown or its provider cannot be used.

        Args:
            name: the name.
            provider: whose model it is if nothing else claims it; with a slash in it, it may be a name of theirs.
        """
        key = (name, provider)
        if key not in self._models:
            full = self._full_name(name, provider)
            self._check_provider(full.partition("/")[0])
            self._models[key] = full
        return self._models[key]

    def _full_name(self, name: str, provider: str | None) -> str:
        if provider is not None and f"provider.{name.partition('/')[0]}" not in self._setup.plugins.found:
            try:
                return f"{provider}/{name}" if "/" in name else full_model_name(self._setup, name)
            except UsageError:
                return f"{provider}/{name}"
        try:
            return full_model_name(self._setup, name)
        except UsageError as error:
            raise RowError(str(error)) from None

    def default_model(self, agent: str | None) -> str:
        """Return the model of prompts that name none, as `provider/` or `provider/model`; checked once for each agent.

        Raises:
            UsageError: nothing names a model that can be asked.
        """
        if agent in self._default_models:
            return self._default_models[agent]
        said = flags_of_prompt(self._defaults, {} if agent is None else {"agent": agent})
        model = agent_for(self._setup, said, None).model or ""
        try:
            self._check_provider(model.partition("/")[0])
        except RowError as error:
            raise UsageError(str(error)) from None
        self._default_models[agent] = model
        return model

    def fixed_model(self, request: Mapping[str, Any]) -> JsonObject:
        """Return what a request says so that a worker with another config asks the model that is asked with this one.

        It is nothing where the prompt or the command line names the model.
        """
        if "model" in request or self._defaults.model is not None:
            return {}
        return {"default_model": _with_name(self._setup, self.default_model(request.get("agent")))}

    def _check_provider(self, name: str) -> None:
        """Raise `RowError` if a provider is not installed, or cannot be made: it has no key, for example."""
        if name in self._providers:
            return
        if f"provider.{name}" not in self._setup.plugins.found:
            raise RowError(missing_line("provider", name, self._setup.plugins.names("provider")))
        if self._needs_keys:
            try:
                make_provider(self._setup, name)
            except AfkError as error:
                raise RowError(str(error)) from None
        self._providers.add(name)

    def agent(self, name: str) -> str:
        """Return a name of an agent; `RowError` if there is none."""
        if name not in self._agents:
            from afkcli.core.contract.suggestions import near_names

            near = near_names(name, self._agents)
            hint = f"did you mean {near[0]!r}?" if near else f"agents: {', '.join(sorted(self._agents))}"
            raise RowError(f"there is no agent {name!r}; {hint}")
        return name

    def schema(self, value: Any) -> JsonObject:
        """Return a JSON Schema: the object itself, its text, or that in a file; `RowError` if it cannot be used."""
        key = value if isinstance(value, str) else canonical(value)
        if key not in self._schemas:
            self._schemas[key] = self._schema(value)
        return self._schemas[key]

    def _schema(self, value: Any) -> JsonObject:
        name = "the schema"
        if isinstance(value, str) and not value.lstrip().startswith("{"):
            name, value = f"the schema {value}", self._read(value)
        try:
            schema = loads(value, exactly=True) if isinstance(value, (str, bytes)) else value
            if not isinstance(schema, dict):
                raise RowError(f"{name} must be a JSON object, or the path of a file with one")
            return usable_schema(schema, name)
        except JsonError as error:
            raise RowError(f"{name} is not JSON: {error}") from None
        except UsageError as error:
            raise RowError(str(error)) from None

    def _read(self, path: str) -> bytes:
        try:
            with (self._folder / path).open("rb") as file:
                data = file.read(MAX_SCHEMA_BYTES + 1)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise RowError(f"the schema {path} cannot be read: {why}") from None
        if len(data) > MAX_SCHEMA_BYTES:
            raise RowError(f"the schema {path} is longer than {MAX_SCHEMA_BYTES // 1024} KiB; use a smaller one")
        return data.removeprefix(b"\xef\xbb\xbf")
