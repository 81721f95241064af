"""Which agent a run of the command line has, and what the flags change in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from afkcli.config.merging import DEFAULT_AGENT, AgentConfig, Choice, environment_choice, fail_safe
from afkcli.core.contract.agent import Agent
from afkcli.core.contract.context import ContextConfig
from afkcli.core.contract.errors import UnknownNameError
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.protocols import ThreadInfo
from afkcli.core.contract.structs import FrozenStruct, field
from afkcli.wiring.models import NOTHING_NAMED, choose_model, full_model_name
from afkcli.wiring.setup import Setup


class Flags(FrozenStruct, kw_only=True):
    """What the command line says about a run; None for an option that was not given.

    `limits` has only the limits that were given, by their fields in `FailSafeConfig`. A value of `options` that is None
    removes what the config sets. `default_model` is what the config of another machine names for runs without a model:
    it goes before the one of this config and of its agents, and no variable of this environment goes before it.
    """

    model: str | None = None
    agent: str | None = None
    instructions: str | None = None
    tools: tuple[str, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    schema: JsonObject | None = None
    context: str | None = None
    context_model: str | None = None
    default_model: str | None = None


def choose_agent(setup: Setup, explicit: Choice | None, thread: ThreadInfo | None) -> AgentConfig:
    """Return the agent of a run: the one named, the thread's, the config's, or the default.

    Raises:
        UnknownNameError: the one named does not exist.
    """
    agents = {DEFAULT_AGENT: setup.config.default_agent(), **setup.config.agents()}
    configured = setup.config.value("agent")
    if explicit is None and thread is not None and thread.agent is not None:
        if thread.agent in agents:
            return agents[thread.agent]
        setup.notify(f"the thread's agent {thread.agent!r} is not in the config; using the default agent")
        return agents[DEFAULT_AGENT]
    choice = explicit or configured
    if choice is None:
        return agents[DEFAULT_AGENT]
    if choice.value not in agents:
        from afkcli.core.contract.suggestions import near_names

        near = near_names(choice.value, agents)
        hint = f"; did you mean {near[0]!r}?" if near else f" (agents: {', '.join(sorted(agents))})"
        raise UnknownNameError(f"there is no agent {choice.value!r}{hint}")
    return agents[choice.value]


def agent_and_model(setup: Setup, flags: Flags, thread: ThreadInfo | None) -> tuple[AgentConfig, Choice]:
    """Return the agent of a run of the command line, and its model with the reason."""
    named = _choice(flags.agent, "--agent") or environment_choice("AFK_AGENT", setup.invocation.environment)
    described = choose_agent(setup, named, thread)
    own = _choice(described.model, f"the agent {described.name!r}")
    explicit = _choice(flags.model, "--model")
    if flags.default_model is None:
        explicit = explicit or environment_choice("AFK_MODEL", setup.invocation.environment)
    elif own is not None:
        own = _choice(flags.default_model, "the batch")
    switched = named is not None and (thread is None or thread.agent != described.name)
    last = own or _choice(flags.default_model, "the batch")
    return described, choose_model(setup, explicit or (own if switched else None), thread, last)


def agent_for(setup: Setup, flags: Flags, thread: ThreadInfo | None) -> Agent:
    """Return the agent that a run of the command line uses."""
    described, model = agent_and_model(setup, flags, thread)
    fallback_models = tuple(full_model_name(setup, name) for name in described.fallback_models)
    limits = {**setup.config.limits(), **described.limits, **flags.limits}
    options = {**described.options, **flags.options}
    context = {**setup.config.context(), **described.context}
    if flags.context is not None:
        context["policy"] = flags.context
    if flags.context_model is not None:
        context["model"] = flags.context_model
    return Agent(
        name=described.name,
        model=model.value,
        remember_model=model.source != NOTHING_NAMED,
        instructions=flags.instructions if flags.instructions is not None else described.instructions or "",
        fail_safe=dataclasses.replace(fail_safe(limits), fallback_models=fallback_models),
        options={name: value for name, value in options.items() if value is not None},
        extra=described.extra,
        tools=tuple(dict.fromkeys((*described.tools, *flags.tools))),
        output_type=flags.schema,
        context=with_full_model(setup, ContextConfig(**context)),
    )


def with_full_model(setup: Setup, context: ContextConfig) -> ContextConfig:
    """Return `context` with the name of its model, if it has one, as `provider/model`."""
    if context.model is None:
        return context
    return dataclasses.replace(context, model=full_model_name(setup, context.model))


def _choice(value: str | None, source: str) -> Choice | None:
    return Choice(value=value, source=source) if value is not None else None
