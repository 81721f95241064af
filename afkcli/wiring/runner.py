"""Runner as users meet it: core's Runner wired with the installed plugins and the user's config."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from afkcli.config.merging import Choice
from afkcli.core.contract.agent import Agent
from afkcli.core.contract.protocols import Price, Provider, Sink, Store, ThreadInfo
from afkcli.core.contract.structs import replace
from afkcli.core.contract.tasks import close_problem
from afkcli.core.run.config import RunnerConfig
from afkcli.core.run.handle import RunHandle
from afkcli.core.run.runner import Runner as CoreRunner
from afkcli.core.thread.attachments import Attachment
from afkcli.host.invocation import Invocation
from afkcli.wiring.agents import with_full_model
from afkcli.wiring.assembly import load_setup
from afkcli.wiring.models import NOTHING_NAMED, choose_model, full_model_name
from afkcli.wiring.plugin_objects import make_provider, make_sinks, open_store
from afkcli.wiring.setup import Setup
from afkcli.wiring.surroundings import runner_config, wiring_of
from afkcli.wiring.toolbox import Toolbox

if TYPE_CHECKING:
    from afkcli.wiring.tapes import Tapes


class Providers(Mapping[str, Provider]):
    """The providers by name, each made when it is first asked for in an event loop: its connections belong to it."""

    def __init__(self, setup: Setup, wrap: Callable[[Provider], Provider] | None = None) -> None:
        self._setup = setup
        self._wrap = wrap or (lambda provider: provider)
        self._made: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Provider]]
        self._made = weakref.WeakKeyDictionary()

    def __getitem__(self, name: str) -> Provider:
        made = self._made.setdefault(asyncio.get_running_loop(), {})
        if name not in made:
            made[name] = self._wrap(make_provider(self._setup, name))
        return made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._setup.plugins.names("provider"))

    def __len__(self) -> int:
        return len(self._setup.plugins.names("provider"))

    async def aclose(self) -> None:
        """Close the providers of the running event loop."""
        for name, provider in self._made.pop(asyncio.get_running_loop(), {}).items():
            problem = await close_problem(provider.aclose())
            if problem is not None:  # the answers are there, and the other providers are to be closed
                self._setup.notify(f"the provider {name!r} {problem}")


class Runner(CoreRunner):
    """Runs agents with the installed plugins, the user's config and the same store as the command line.

    Args:
        config: how to behave.
        store: a store, or "memory" for one that is gone with the process; the configured one by default.
        sinks: event sinks; the configured ones by default.
        project: whether the afk.toml of the working directory counts too, as on the command line.
        setup: config and plugins that were loaded already. Without it, what belongs to no run's events (the embedded
            model answers, a sink is left out) is said as a warning of the logger `afkcli`, so on stderr by default.
        record: a file that takes what the runs ask their models and tools, and what they answer. It must not exist.
            Since 0.2.
        replay: a recording that answers the runs, in the order in which they start, instead of models and tools. No
            thread is written, and no sink gets events unless `store` and `sinks` say so. Since 0.2.
        tapes: makes what stands between the runs and their models and tools, in place of `record` and `replay`.
        wrap: returns what is used in place of a provider, which it is given. Since 0.2.
        price: returns what a model (`provider/model`) costs whose usual price it is given. Since 0.2.

    Raises:
        UsageError: the recording cannot be written or read.
    """

    def __init__(
        self,
        config: RunnerConfig | None = None,
        *,
        store: Store | Literal["memory"] | None = None,
        sinks: Sequence[Sink] | None = None,
        project: bool = False,
        setup: Setup | None = None,
        record: str | os.PathLike[str] | None = None,
        replay: str | os.PathLike[str] | None = None,
        tapes: Tapes | None = None,
        wrap: Callable[[Provider], Provider] | None = None,
        price: Callable[[str, Price | None], Price | None] | None = None,
    ) -> None:
        if setup is None:
            invocation = Invocation.of_process()
            setup = load_setup(invocation, project=project, notify=lambda line: _warn(invocation.secrets.mask(line)))
        self.setup = setup
        self._made = Providers(self.setup, wrap)
        self._toolbox = Toolbox(self.setup)
        wiring = replace(wiring_of(self.setup), find_tools=self._toolbox.find)
        if price is not None:
            usual = wiring.look_up_price
            wiring = replace(wiring, look_up_price=lambda name, capabilities: price(name, usual(name, capabilities)))
        if tapes is None and not (record is None and replay is None):
            from afkcli.wiring.tapes import tapes_of  # not at the top: few runs are recorded

            tapes = tapes_of(self.setup, record, replay)
        self._tapes = tapes
        opens: Callable[[], Store] = partial(open_store, self.setup)
        if tapes is not None:
            wiring, opens = replace(wiring, tape=tapes.tape), tapes.store(opens)
        if store == "memory" and (tapes is None or tapes.is_real):  # a replay counts for itself, from nothing
            wiring = replace(wiring, budgets=replace(wiring.budgets, kept=False))
        if sinks is None:
            sinks = make_sinks(self.setup) if tapes is None or tapes.is_real else ()
        super().__init__(
            providers=self._made,
            store=None if store == "memory" else store or opens,
            sinks=sinks,
            config=config or runner_config(self.setup),
            wiring=wiring,
        )

    async def run_stream(
        self,
        agent: Agent,
        *,
        user_message: str,
        thread_id: str | None = None,
        attachments: Sequence[Attachment] = (),
        run_id: str | None = None,
    ) -> RunHandle:
        return await self.start(
            self._choice_of(agent),
            user_message=user_message,
            thread_id=thread_id,
            attachments=attachments,
            run_id=run_id,
        )

    async def resume_stream(self, agent: Agent, *, thread_id: str, run_id: str | None = None) -> RunHandle:
        return await self.start(
            self._choice_of(agent), user_message=None, thread_id=thread_id, create=False, run_id=run_id
        )

    async def retry_stream(
        self, agent: Agent, *, thread_id: str, user_message: str | None = None, run_id: str | None = None
    ) -> RunHandle:
        return await self.start(
            self._choice_of(agent),
            user_message=user_message,
            thread_id=thread_id,
            create=False,
            run_id=run_id,
            replaces="last",
        )

    def _chosen(self, agent: Agent, thread: ThreadInfo) -> Agent:
        return self._choice_of(agent)(thread)

    def _choice_of(self, agent: Agent) -> Callable[[ThreadInfo], Agent]:
        """Return what gives `agent` its model, once the thread is known."""

        def choose(thread: ThreadInfo) -> Agent:
            named = Choice(value=agent.model, source=f"the agent {agent.name!r}") if agent.model else None
            fallback = tuple(full_model_name(self.setup, name) for name in agent.fail_safe.fallback_models)
            model = choose_model(self.setup, named, thread, None)
            return dataclasses.replace(
                agent,
                model=model.value,
                remember_model=agent.remember_model and model.source != NOTHING_NAMED,
                fail_safe=dataclasses.replace(agent.fail_safe, fallback_models=fallback),
                context=with_full_model(self.setup, agent.context),
            )

        return choose

    async def leave_loop(self) -> None:
        await self._toolbox.aclose()
        await self._made.aclose()

    async def aclose(self) -> None:
        try:
            await self.leave_loop()
        finally:
            await super().aclose()

    def close(self) -> None:
        super().close()
        if self._tapes is not None:
            self._tapes.close()


def _warn(line: str) -> None:
    logging.getLogger("afkcli").warning("%s", line)
