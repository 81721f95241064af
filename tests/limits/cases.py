"""Every limit at several values: cut before a call, cut while an answer streams, and not cut one too early."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from afkcli.testing.model_server import Fault, ScriptedCall, ScriptedUsage, Step
from tests.e2e.shell import LIMIT
from tests.limits.table import Row
from tests.limits.world import PRICED, TOKEN, World, streamed_tokens

ANSWER = Step(text=[TOKEN], usage=ScriptedUsage(input_tokens=10, output_tokens=1))  # a dollar, as `PRICED`
STREAM = Step(text=[TOKEN] * 2000, delay_between=0.002, events_per_write=1)
BUSY = Step(status=503, headers={"Retry-After": "0"}, body={"error": {"message": "busy"}})
REFUSED = Step(status=401, body={"error": {"message": "no"}})
UNPRICED = ""
FREE = PRICED.replace("1_000_000", "0")
PRICED_INPUT = PRICED.replace("input = 0", "input = 1_000_000")
COMPLETED = {"state": "completed", "exit": 0}
NO_RUN = {"calls": 0, "state": "no run", "exit": 2}


def counted(times: int = 1, name: str = "count.up") -> Step:
    """A step that asks for so many tool calls, and costs a dollar."""
    return replace(
        ANSWER, text=(), tool_calls=[ScriptedCall(name=name, arguments={}, id=f"c{n}") for n in range(times)]
    )


def cut(reason: str, **counts: object) -> dict[str, object]:
    return {"state": "degraded", "reason": reason, "exit": 3, **counts}


Make = Callable[[World, Any], Row]


@dataclass(frozen=True, slots=True)
class Case:
    """One limit, reached in one way, at several values; the pytest form takes the values of `short`."""

    name: str
    make: Make
    values: Sequence[Any]
    short: Sequence[Any]


# -- steps and calls ---------------------------------------------------------------------------------------------------


def steps_cut(world: World, limit: int) -> Row:
    seen = world.afk("--max-steps", str(limit), steps=[counted()])
    expected = cut("max_steps", calls=limit, steps=limit, tool_calls=limit)
    return Row(limit="max_steps", value=str(limit), how="a tool in each step", seen=seen, expected=expected)


def steps_enough(world: World, limit: int) -> Row:
    seen = world.afk("--max-steps", str(limit), steps=[*[counted()] * (limit - 1), ANSWER])
    expected = {**COMPLETED, "calls": limit, "steps": limit}
    return Row(limit="max_steps", value=str(limit), how="as many as needed", seen=seen, expected=expected)


def calls_of_steps(world: World, limit: int) -> Row:
    seen = world.afk("--max-llm-calls", str(limit), steps=[counted()])
    expected = cut("max_llm_calls", calls=limit, steps=limit)
    return Row(limit="max_llm_calls", value=str(limit), how="a tool in each step", seen=seen, expected=expected)


def calls_of_retries(world: World, limit: int) -> Row:
    seen = world.afk("--max-llm-calls", str(limit), steps=[BUSY])
    expected = cut("max_llm_calls", calls=limit)
    return Row(limit="max_llm_calls", value=str(limit), how="retries after 503", seen=seen, expected=expected)


def calls_of_retries_and_steps(world: World, limit: int) -> Row:
    seen = world.afk("--max-llm-calls", str(limit), steps=[BUSY, counted()] * limit)
    expected = cut("max_llm_calls", calls=limit)
    return Row(limit="max_llm_calls", value=str(limit), how="every second one fails", seen=seen, expected=expected)


def calls_of_fallbacks(world: World, limit: int) -> Row:
    seen = world.afk("--max-llm-calls", str(limit), steps=[REFUSED], config=fallbacks(5))
    expected = cut("max_llm_calls", calls=limit)
    return Row(limit="max_llm_calls", value=str(limit), how="fallbacks after 401", seen=seen, expected=expected)


def calls_enough(world: World, limit: int) -> Row:
    seen = world.afk("--max-llm-calls", str(limit), steps=[*[BUSY] * (limit - 1), ANSWER])
    expected = {**COMPLETED, "calls": limit}
    return Row(limit="max_llm_calls", value=str(limit), how="the last one answers", seen=seen, expected=expected)


def fallbacks(number: int) -> str:
    return f"fallback_models = {[f'openai/other-{n}' for n in range(number)]}\n"


def fallbacks_used(world: World, number: int) -> Row:
    seen = world.afk(steps=[REFUSED], config=fallbacks(number))
    expected = {"state": "failed", "exit": 4, "calls": 1 + number}
    return Row(limit="fallback_models", value=str(number), how="all answer 401", seen=seen, expected=expected)


def fallbacks_after_text(world: World, number: int) -> Row:
    broken = Step(text=[TOKEN] * 3, fault=Fault.RESET, fault_after=2)
    seen = world.afk(steps=[broken], config=fallbacks(number))
    expected = {"state": "failed", "reason": "truncated", "exit": 4, "calls": 1, "tokens": 2}
    return Row(limit="fallback_models", value=str(number), how="broken in the stream", seen=seen, expected=expected)


# -- tool calls --------------------------------------------------------------------------------------------------------


def tools_one_by_one(world: World, limit: int) -> Row:
    seen = world.afk("--max-tool-calls", str(limit), steps=[counted()])
    expected = cut("max_tool_calls", tool_calls=limit, calls=limit + 1)
    return Row(limit="max_tool_calls", value=str(limit), how="one in each step", seen=seen, expected=expected)


def tools_at_once(world: World, limit: int) -> Row:
    seen = world.afk("--max-tool-calls", str(limit), steps=[counted(4)])
    expected = cut("max_tool_calls", tool_calls=limit, calls=limit // 4 + 1)
    return Row(limit="max_tool_calls", value=str(limit), how="four in each step", seen=seen, expected=expected)


def tools_enough(world: World, limit: int) -> Row:
    seen = world.afk("--max-tool-calls", str(limit), steps=[*([counted(limit)] if limit else []), ANSWER])
    expected = {**COMPLETED, "tool_calls": limit, "tokens": 1}
    return Row(limit="max_tool_calls", value=str(limit), how="as many as needed", seen=seen, expected=expected)


def tools_of_a_resumed_turn(world: World, limit: int) -> Row:
    """A turn that was cut after two calls is resumed: the limit counts what the second run does."""
    thread = f"resumed-{world.runs}"
    world.afk("-t", thread, "--max-tool-calls", "2", steps=[counted()])
    world.server.script(counted())
    before = len(world.server.requests)
    process = world.start("--max-tool-calls", str(limit), resume=thread)
    seen = world.seen(process, before)
    expected = cut("max_tool_calls", tool_calls=limit)
    return Row(limit="max_tool_calls", value=str(limit), how="a resumed turn", seen=seen, expected=expected)


def parallel_tools(world: World, limit: int) -> Row:
    config = f"[limits]\nmax_parallel_tools = {limit}\n"
    seen = world.afk(steps=[counted(limit + 3), ANSWER], config=config, COUNT_TOGETHER=str(limit))
    expected = {**COMPLETED, "tool_calls": limit + 3, "parallel": limit}
    how = f"{limit + 3} in one step"
    return Row(limit="max_parallel_tools", value=str(limit), how=how, seen=seen, expected=expected)


# -- size --------------------------------------------------------------------------------------------------------------

PART = 1_000
QUESTION = PART + len("go")


def turn_of_text(world: World, megabytes: float) -> Row:
    """An answer is cut at the byte: the question and its part count, then each character of the answer."""
    fits = (int(megabytes * 2**20) - QUESTION) // len(TOKEN)
    seen = world.afk("--max-turn-mb", str(megabytes), steps=[Step(text=[TOKEN], repeat=fits + 500)])
    expected = cut("max_turn_mb", calls=1, tokens=fits)
    return Row(limit="max_turn_mb", value=f"{megabytes} MB", how="a long answer", seen=seen, expected=expected)


def turn_enough(world: World, megabytes: float) -> Row:
    fits = (int(megabytes * 2**20) - QUESTION - PART) // len(TOKEN)
    seen = world.afk("--max-turn-mb", str(megabytes), steps=[Step(text=[TOKEN], repeat=fits)])
    expected = {**COMPLETED, "calls": 1, "tokens": fits}
    return Row(limit="max_turn_mb", value=f"{megabytes} MB", how="exactly enough", seen=seen, expected=expected)


def turn_of_calls(world: World, megabytes: float) -> Row:
    """Each call counts its own part and that of its result; those of the step that do not fit are not made."""
    seen = world.afk("--max-turn-mb", str(megabytes), steps=[counted(1)])
    problems = [] if seen.tool_calls in (seen.calls, seen.calls - 1) else [f"{seen.tool_calls} calls were made"]
    expected = cut("max_turn_mb")
    how = "a tool in each step"
    return Row(limit="max_turn_mb", value=f"{megabytes} MB", how=how, seen=seen, expected=expected, problems=problems)


# -- time --------------------------------------------------------------------------------------------------------------


def timed(how: str, step: Step, *, in_call: bool = True) -> Make:
    """Return a case that runs out of time; the check is that it ended by the limit, and not before.

    How far it came until then is shown; it depends on the machine.
    """

    def make(world: World, seconds: float) -> Row:
        seen = world.afk("--timeout", str(seconds), steps=[step])
        problems = [f"it ended after {seen.seconds} s"] if seen.seconds < seconds - 0.01 else []
        if in_call and seen.closed != seen.calls:
            problems.append("the call continued")
        return Row(
            limit="max_wall_time_s",
            value=f"{seconds:g} s",
            how=how,
            seen=seen,
            expected=cut("max_wall_time_s"),
            shown=("calls", "closed", "tool_calls", "tokens", "seconds"),
            problems=problems,
        )

    return make


# -- cost --------------------------------------------------------------------------------------------------------------


def cost_before(world: World, limit: int) -> Row:
    seen = world.afk("--max-cost", str(limit), steps=[counted()], config=PRICED)
    expected = cut("max_total_cost_usd", calls=limit, steps=limit)
    return Row(limit="max_total_cost_usd", value=f"{limit} $", how="1 $ a call", seen=seen, expected=expected)


def cost_enough(world: World, limit: int) -> Row:
    seen = world.afk("--max-cost", str(limit), steps=[*[counted()] * (limit - 1), ANSWER], config=PRICED)
    expected = {**COMPLETED, "calls": limit, "tokens": 1}
    return Row(limit="max_total_cost_usd", value=f"{limit} $", how="exactly enough", seen=seen, expected=expected)


def cost_streaming(world: World, limit: int) -> Row:
    seen = world.afk("--max-cost", str(limit), steps=[STREAM], config=PRICED)
    expected = cut("max_total_cost_usd", calls=1, closed=1, tokens=limit)
    return Row(limit="max_total_cost_usd", value=f"{limit} $", how="streams, 1 $ a token", seen=seen, expected=expected)


def cost_later_stream(world: World, limit: int) -> Row:
    """The first call costs a dollar, so that one token less is left for the second."""
    seen = world.afk("--max-cost", str(limit), steps=[counted(), STREAM], config=PRICED)
    expected = cut("max_total_cost_usd", calls=2, closed=1, tokens=limit - 1)
    return Row(limit="max_total_cost_usd", value=f"{limit} $", how="the second call", seen=seen, expected=expected)


def cost_of_input(world: World, limit: int) -> Row:
    seen = world.afk("--max-cost", str(limit), steps=[ANSWER], config=PRICED_INPUT)
    expected = cut("max_total_cost_usd", calls=0, steps=0, tokens=0)
    return Row(limit="max_total_cost_usd", value=f"{limit} $", how="the input is dearer", seen=seen, expected=expected)


def cost_free(world: World, limit: int) -> Row:
    seen = world.afk("--max-cost", str(limit), steps=[counted(), ANSWER], config=FREE)
    expected = {**COMPLETED, "calls": 2}
    return Row(limit="max_total_cost_usd", value=f"{limit} $", how="a free model", seen=seen, expected=expected)


def cost_unknown(world: World, limit: int) -> Row:
    seen = world.afk("--max-cost", str(limit), steps=[ANSWER], config=UNPRICED)
    return Row(limit="max_total_cost_usd", value=f"{limit} $", how="unknown price", seen=seen, expected=NO_RUN)


# -- budgets -----------------------------------------------------------------------------------------------------------


def budget(name: str, usd: float) -> str:
    return f"[budgets]\n{name}_usd = {usd}\n{PRICED}"


def budget_of_runs(name: str) -> Make:
    """Return a case of runs that cost a dollar each, one after the other, until the budget is used up."""

    def make(world: World, limit: int) -> Row:
        world.forget()
        threads = ["shared"] * (limit + 1) if name == "thread" else [f"t-{n}" for n in range(limit + 1)]
        runs = [world.afk("-t", thread, steps=[ANSWER], config=budget(name, limit)) for thread in threads]
        short = [f"run {n} ended {run.state}" for n, run in enumerate(runs[:-1], 1) if run.state != "completed"]
        seen = replace(runs[-1], calls=sum(run.calls for run in runs))
        return Row(
            limit=f"{name}_usd",
            value=f"{limit} $",
            how=f"{limit + 1} runs of 1 $",
            seen=seen,
            expected=cut(f"budget_{name}", calls=limit, steps=0),
            problems=short,
        )

    return make


def budget_streaming(name: str) -> Make:
    def make(world: World, limit: int) -> Row:
        world.forget()
        seen = world.afk("-t", "t", steps=[STREAM], config=budget(name, limit))
        expected = cut(f"budget_{name}", calls=1, closed=1, tokens=limit)
        return Row(limit=f"{name}_usd", value=f"{limit} $", how="streams, 1 $ a token", seen=seen, expected=expected)

    return make


def budget_in_parallel(world: World, limit: int) -> Row:
    """Two processes at the same time stream until the budget is used up: together they used all of it, and no more."""
    world.forget()
    world.server.script(STREAM)
    before = len(world.server.requests)
    processes = [world.start(config=budget("day", limit)) for _ in range(2)]
    with ThreadPoolExecutor() as readers:
        first, second = readers.map(lambda process: world.seen(process, before), processes)
    problems = [] if first.reason == second.reason else [f"the other one ended {first.state}, {first.reason}"]
    return Row(
        limit="day_usd",
        value=f"{limit} $",
        how="two at once, streaming",
        seen=replace(second, tokens=first.tokens + second.tokens),
        expected=cut("budget_day", tokens=limit),
        problems=problems,
    )


def budget_after_a_kill(world: World, limit: int) -> Row:
    """A killed run leaves its reservation, 256 tokens ahead of the streamed text: the next run has the rest."""
    world.forget()
    world.server.script(replace(STREAM, fault=Fault.HANG, fault_after=10))
    process = world.start(config=budget("day", limit))
    assert process.stdout is not None
    events: list[dict[str, Any]] = []
    while streamed_tokens(events) < 10:
        events.append(json.loads(process.stdout.readline()))
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=LIMIT)
    seen = world.afk(steps=[STREAM], config=budget("day", limit))
    expected = cut("budget_day", calls=1, closed=1, tokens=limit - 256)
    return Row(limit="day_usd", value=f"{limit} $", how="after kill -9 at 10 $", seen=seen, expected=expected)


def budget_unknown(world: World, limit: int) -> Row:
    seen = world.afk(steps=[ANSWER], config=f"[budgets]\nthread_usd = {limit}\n")
    return Row(limit="thread_usd", value=f"{limit} $", how="unknown price", seen=seen, expected=NO_RUN)


HANGS = Step(fault=Fault.HANG_BEFORE_HEADERS)
STALLS = Step(text=[TOKEN] * 9, fault=Fault.HANG, fault_after=3)
TRICKLES = Step(text=[TOKEN] * 1000, delay_between=0.05)

CASES = (
    Case("steps", steps_cut, [1, 2, 3, 5], [2]),
    Case("steps-enough", steps_enough, [1, 2, 3], [2]),
    Case("calls-steps", calls_of_steps, [1, 2, 3], [2]),
    Case("calls-retries", calls_of_retries, [1, 2, 3], [2]),
    Case("calls-both", calls_of_retries_and_steps, [1, 2, 3, 4], [3]),
    Case("calls-fallbacks", calls_of_fallbacks, [1, 2, 3], [2]),
    Case("calls-enough", calls_enough, [1, 2, 3], [3]),
    Case("fallbacks", fallbacks_used, [0, 1, 2, 3], [2]),
    Case("fallbacks-text", fallbacks_after_text, [0, 1, 3], [1]),
    Case("tools", tools_one_by_one, [0, 1, 2, 3], [0, 1]),
    Case("tools-at-once", tools_at_once, [0, 1, 2, 3, 4, 5], [3]),
    Case("tools-enough", tools_enough, [0, 1, 2, 3], [2]),
    Case("tools-resumed", tools_of_a_resumed_turn, [0, 1, 2], [1]),
    Case("parallel", parallel_tools, [1, 2, 3, 8], [2]),
    Case("turn-text", turn_of_text, [0.01, 0.1, 1], [0.01]),
    Case("turn-enough", turn_enough, [0.01, 0.1, 1], [0.01]),
    Case("turn-calls", turn_of_calls, [0.005, 0.02], [0.005]),
    Case("time-before", timed("no answer", HANGS), [0.5, 1, 2], [0.5]),
    Case("time-stalled", timed("stalls in the stream", STALLS), [0.5, 1, 2], [0.5]),
    Case("time-streaming", timed("streams slowly", TRICKLES), [0.5, 1, 2], []),
    Case("time-tool", timed("a tool that sleeps", counted(1, "count.sleep"), in_call=False), [0.5, 1, 2], [1]),
    Case("cost-before", cost_before, [0, 1, 2, 3], [0, 2]),
    Case("cost-enough", cost_enough, [1, 2, 3], [2]),
    Case("cost-streaming", cost_streaming, [1, 2, 3, 100], [3]),
    Case("cost-later", cost_later_stream, [2, 3, 4], [3]),
    Case("cost-input", cost_of_input, [1, 10], [10]),
    Case("cost-free", cost_free, [0, 1], [0]),
    Case("cost-unknown", cost_unknown, [0, 1], [1]),
    Case("thread-runs", budget_of_runs("thread"), [0, 1, 2, 3], [1]),
    Case("day-runs", budget_of_runs("day"), [0, 1, 2, 3], [1]),
    Case("thread-streaming", budget_streaming("thread"), [1, 2, 3, 300], [3]),
    Case("day-streaming", budget_streaming("day"), [1, 2, 3, 300], [3]),
    Case("day-parallel", budget_in_parallel, [1, 2, 300, 1500], [600]),
    Case("day-killed", budget_after_a_kill, [257, 300], [300]),
    Case("budget-unknown", budget_unknown, [0, 1], [1]),
)


def rows_of(world: World, case: Case, *, short: bool = False) -> list[Row]:
    """Return the rows of a case."""
    return [case.make(world, value) for value in (case.short if short else case.values)]
