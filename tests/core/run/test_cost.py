"""The cost of a run, and its limit: before a call, while it streams, and where something is unknown."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from afkcli.core.contract.errors import ErrorKind, ProviderError
from afkcli.core.contract.limits import FailSafeConfig
from afkcli.core.contract.messages import ModelRequest, TextDelta, ToolCallDelta
from afkcli.core.contract.protocols import Capabilities, Price, PriceTier
from afkcli.core.contract.result import RunState, Usage
from afkcli.core.run.config import Wiring
from afkcli.core.run.cost import CHARS_PER_TOKEN, cost_of
from tests.core.limited import FREE, PRICE, is_cut_by, limited, looks
from tests.core.scripted import USAGE, Scripted, agent, answer, call, events_of, response, streamed, types


def test_cost_is_checked_before_the_next_call() -> None:
    model = looks(10, price=PRICE)  # a call costs 10 * 1 + 5 * 2 = 20 dollars
    result, _ = limited(model, max_total_cost_usd=40)
    assert is_cut_by(result, "max_total_cost_usd")
    assert (len(model.requests), result.total_cost_usd) == (2, 40)


def test_cost_is_checked_while_an_answer_streams() -> None:
    pieces = ["12345678"] * 100  # about 4 dollars each
    model = Scripted(answer(*pieces), price=PRICE)
    result, events = limited(model, max_total_cost_usd=10)
    assert is_cut_by(result, "max_total_cost_usd")
    assert streamed(events) == "12345678" * 2 + "1234"
    assert result.total_cost_usd is None  # the server did not get to say what it was


def test_an_answer_that_costs_exactly_the_limit_is_whole() -> None:
    usage = Usage(input_tokens=2, output_tokens=4)
    whole = Scripted(answer(*["1234"] * 4, usage=usage), price=PRICE, input_tokens=2)
    result, _ = limited(whole, max_total_cost_usd=10)
    assert (result.state, result.final_text, result.total_cost_usd) == (RunState.COMPLETED, "1234" * 4, 10)


def test_a_cost_limit_of_zero_allows_a_free_model() -> None:
    assert limited(looks(2, price=FREE), max_total_cost_usd=0)[0].state is RunState.COMPLETED
    assert is_cut_by(limited(looks(2, price=PRICE), max_total_cost_usd=0)[0], "max_total_cost_usd")


def test_an_unknown_price_warns_and_costs_an_unknown_amount() -> None:
    result, events = limited(looks(1), max_total_cost_usd=1)
    assert result.state is RunState.COMPLETED
    assert result.total_cost_usd is None
    assert [event.code for event in events if event.type == "warning"] == ["price_unknown"]


def test_missing_usage_makes_the_cost_unknown_not_zero() -> None:
    assert limited(Scripted(answer("a", usage=None), price=PRICE))[0].total_cost_usd is None
    assert limited(Scripted(answer("a", usage=None), price=FREE))[0].total_cost_usd == 0
    assert limited(Scripted(answer("a"), price=PRICE))[0].total_cost_usd == 20
    assert limited(Scripted([TextDelta("a")], price=PRICE))[0].total_cost_usd is None


@pytest.mark.parametrize("count", ["input_tokens", "output_tokens", "cache_read_input_tokens"])
def test_a_count_that_is_unknown_makes_the_cost_unknown_and_limits_use_the_estimate(count: str) -> None:
    usage = Usage(input_tokens=1, output_tokens=1, unknown=(count,))
    assert limited(Scripted(answer("a", usage=usage), price=PRICE))[0].total_cost_usd is None
    assert limited(Scripted(answer("a", usage=usage), price=FREE))[0].total_cost_usd == 0
    long = [TextDelta("x" * 80), response("x" * 80, call("look"), usage=usage)]  # about 20 tokens: 40 dollars
    model = Scripted(long, answer("a"), price=PRICE)
    assert is_cut_by(limited(model, max_total_cost_usd=41)[0], "max_total_cost_usd")
    assert len(model.requests) == 1


def test_a_negative_count_lowers_no_budget() -> None:
    usage = Usage(input_tokens=-1000, output_tokens=-1000)
    model = Scripted(
        *([TextDelta("x" * 80), response("x" * 80, call("look"), usage=usage)] for _ in range(9)), price=PRICE
    )
    result, _ = limited(model, max_total_cost_usd=100)
    assert is_cut_by(result, "max_total_cost_usd")
    assert len(model.requests) == 3
    assert result.total_cost_usd is None


def test_a_call_that_failed_before_any_output_costs_nothing() -> None:
    busy = [ProviderError("busy", kind=ErrorKind.OVERLOADED, retry_after=0)]
    assert limited(Scripted(busy, answer("a"), price=PRICE))[0].total_cost_usd == 20


def test_usage_is_the_sum_of_all_steps() -> None:
    assert limited(looks(2))[0].usage == USAGE + USAGE + USAGE


def test_cached_tokens_have_their_own_price() -> None:
    usage = Usage(input_tokens=10, output_tokens=1, cache_read_input_tokens=6, cache_creation_input_tokens=2)
    assert cost_of(usage, Price(input=1_000_000, output=0, cache_read=500_000, cache_write=2_000_000)) == 2 + 3 + 4
    assert cost_of(usage, Price(input=1_000_000, output=0, cache_read=0)) == 4
    assert cost_of(usage, Price(input=1_000_000, output=0)) == 10
    assert cost_of(usage, None) is None


@pytest.mark.parametrize(("input_tokens", "dollars"), [(10, 10 + 2), (11, 22 + 3), (20, 40 + 3), (21, 63 + 4)])
def test_a_call_with_a_long_input_costs_more_by_all_of_its_tokens(input_tokens: int, dollars: float) -> None:
    tiers = (
        PriceTier(above=10, price=Price(input=2_000_000, output=3_000_000)),
        PriceTier(above=20, price=Price(input=3_000_000, output=4_000_000)),
    )
    price = Price(input=1_000_000, output=2_000_000, tiers=tiers)
    assert cost_of(Usage(input_tokens=input_tokens, output_tokens=1), price) == dollars


def test_a_call_whose_input_alone_exceeds_the_limit_is_not_made() -> None:
    model = looks(1, price=PRICE, input_tokens=7)
    result, events = limited(model, max_total_cost_usd=6)
    assert is_cut_by(result, "max_total_cost_usd")
    assert (model.requests, result.steps, result.total_cost_usd) == ([], 0, 0)
    assert "step_started" not in types(events)

    enough = Scripted(answer("x"), price=PRICE, input_tokens=7)
    assert limited(enough, max_total_cost_usd=10)[0].state is RunState.COMPLETED


def test_the_input_counts_while_the_answer_streams() -> None:
    pieces = ["1234"] * 100  # 2 dollars each, after an input of 7 dollars
    _, events = limited(Scripted(answer(*pieces), price=PRICE, input_tokens=7), max_total_cost_usd=10)
    assert streamed(events) == "1234" * 2


def test_the_arguments_of_a_tool_call_are_output_too() -> None:
    pieces = [ToolCallDelta(id="c1", name="look", arguments="1234")] * 100
    _, events = limited(Scripted([*pieces, answer("x")[-1]], price=PRICE, input_tokens=0), max_total_cost_usd=10)
    assert "".join(event.arguments_delta for event in events if event.type == "tool_call_delta") == "1234" * 5


@pytest.mark.parametrize("size", [1, 10, 4000])
def test_it_makes_no_difference_how_much_of_an_answer_comes_at_once(size: int) -> None:
    text = "12345678" * 500
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    result, events = limited(Scripted(answer(*pieces), price=PRICE, input_tokens=0), max_total_cost_usd=160)
    assert is_cut_by(result, "max_total_cost_usd")
    assert 320 <= len(streamed(events)) < 320 + CHARS_PER_TOKEN  # two characters cost a dollar
    assert result.final_text == streamed(events)


def test_a_provider_that_cannot_count_tokens_is_estimated() -> None:
    class Silent(Scripted):
        async def count_tokens(self, request: ModelRequest) -> int:
            raise ProviderError("no count", kind=ErrorKind.NOT_FOUND)

    result, _ = limited(Silent(answer("x"), price=PRICE), max_total_cost_usd=5)
    assert is_cut_by(result, "max_total_cost_usd")
    assert limited(Silent(answer("x"), price=PRICE), max_total_cost_usd=500)[0].state is RunState.COMPLETED


def test_a_call_that_was_cancelled_before_its_answer_costs_an_unknown_amount() -> None:
    result, _ = limited(Scripted([asyncio.Event()], price=PRICE), max_wall_time_s=0.5)
    assert is_cut_by(result, "max_wall_time_s")
    assert result.total_cost_usd is None


def test_an_abandoned_call_costs_an_unknown_amount() -> None:
    async def stays() -> None:
        for _ in range(2):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

    result, _ = limited(Scripted([stays], price=PRICE), max_wall_time_s=0.5)
    assert is_cut_by(result, "max_wall_time_s")
    assert result.total_cost_usd is None


def test_the_cost_limit_keeps_counting_when_a_part_is_unknown() -> None:
    cut = [ToolCallDelta(id="c1", name="look", arguments="12345678"), response("", call("look"), usage=None)]
    model = Scripted(cut, answer(*["1234"] * 100), price=PRICE)  # 1 and 4 dollars, then 1 and 2 for each piece
    result, events = limited(model, max_total_cost_usd=10)
    assert is_cut_by(result, "max_total_cost_usd")
    assert streamed(events) == "1234" * 2
    assert result.total_cost_usd is None


def test_without_a_limit_a_price_is_looked_up_after_the_request() -> None:
    order: list[str] = []

    def look_up(full_name: str, capabilities: Capabilities) -> Price:
        order.append(full_name)
        return PRICE

    async def leave() -> None:
        order.append("request")

    model = Scripted([leave, *answer("a")])
    wiring = Wiring(look_up_price=look_up)
    last = events_of(model, wiring=wiring)[-1]
    assert last.type == "completed"
    assert (order, last.result.total_cost_usd) == (["request", "fake/small"], 20)

    order.clear()
    limit = FailSafeConfig(max_total_cost_usd=100)
    events_of(Scripted([leave, *answer("a")]), agent(fail_safe=limit), wiring=wiring)
    assert order == ["fake/small", "request"]
