"""The models of a run: what one of them cannot do is left out of its requests, and of no other's."""

from __future__ import annotations

import asyncio

from afkcli.core.contract.errors import ErrorKind, ProviderError
from afkcli.core.contract.events import Event
from afkcli.core.contract.limits import FailSafeConfig
from afkcli.core.contract.protocols import Capabilities
from afkcli.core.run.transcript import UNTRUSTED_NOTE
from tests.core.scripted import Scripted, agent, answer, call, calls, collect, events_of, runner_of


class Plain(Scripted):
    """A provider whose models cannot use tools."""

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities(tools=False)


def look(path: str) -> str:
    return path


def test_a_model_that_cannot_use_tools_is_sent_none_and_one_warning_says_so() -> None:
    broken = ProviderError("busy", kind=ErrorKind.NETWORK)
    model = Plain([broken], answer("a"))
    events = events_of(model, agent(tools=[look], instructions="Be short."))
    assert [list(request.tools) for request in model.requests] == [[], []]
    assert model.said(0)[0] == ("system", "Be short.")
    said = [(event.code, event.message) for event in events if event.type == "warning"]
    assert said == [("tools_left_out", "fake/small cannot use tools; they are left out: look")]


def test_a_model_that_cannot_use_tools_and_has_none_is_not_warned_about() -> None:
    assert [event for event in events_of(Plain(answer("a"))) if event.type == "warning"] == []


def test_only_the_fallback_that_cannot_use_tools_gets_no_tools() -> None:
    model = Scripted(calls(call("look", path="a")), [ProviderError("no", kind=ErrorKind.AUTH)])
    other = Plain(answer("b"), name="other")
    chosen = agent(tools=[look], fail_safe=FailSafeConfig(fallback_models=("other/small",)))

    async def run() -> list[Event]:
        async with runner_of(model, other) as runner:
            return await collect(await runner.run_stream(chosen, user_message="hi"))

    events = asyncio.run(run())
    assert [[spec.name for spec in request.tools] for request in model.requests] == [["look"], ["look"]]
    assert UNTRUSTED_NOTE in model.said(0)[0][1]
    assert [list(request.tools) for request in other.requests] == [[]]
    assert [event.code for event in events if event.type == "warning"] == ["fallback", "tools_left_out"]
