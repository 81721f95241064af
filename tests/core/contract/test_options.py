"""Options of a model call are checked before a run: by name, by type, by range."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from afkcli.config.checking import OPTION_KEYS
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.limits import FailSafeConfig
from afkcli.core.contract.options import PORTABLE, check_options
from afkcli.core.contract.protocols import Capabilities
from afkcli.core.thread.memory_store import MemoryStore
from tests.core.scripted import Scripted, agent, answer, runner_of

UNKNOWN = Capabilities()


class Choosy(Scripted):
    """A provider whose model takes `max_output_tokens` and an option of its own."""

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities(
            options=frozenset({"max_output_tokens", "own"}), option_ranges={"max_output_tokens": (1, 9)}
        )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": "hot"}, "fake/small needs a number from 0 to 2 for the option 'temperature' (got 'hot')"),
        ({"temperature": -0.1}, "from 0 to 2"),
        ({"temperature": float("nan")}, "from 0 to 2"),
        ({"temperature": True}, "a number"),
        ({"temperature": None}, "a number"),
        ({"top_p": 1.01}, "from 0 to 1"),
        ({"max_output_tokens": 0}, "an integer from 1"),
        ({"max_output_tokens": 1.5}, "an integer"),
        ({"stop": []}, "a string or an array of strings"),
        ({"stop": ["a", 1]}, "a string or an array of strings"),
        ({"seed": "x"}, "an integer"),
        ({"reasoning_effort": 3}, "a string"),
        (
            {"top_k": 40},
            "does not accept the option 'top_k'; it accepts: max_output_tokens, reasoning_effort, seed, stop",
        ),
    ],
)
def test_options_that_no_model_accepts_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_options(options, {}, "fake/small", UNKNOWN)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_that_every_model_accepts_pass() -> None:
    options = {"temperature": 0, "top_p": 1.0, "max_output_tokens": 1, "stop": ["a"], "seed": -7}
    check_options({**options, "reasoning_effort": "low"}, {"any": [1]}, "fake/small", UNKNOWN)


def test_values_that_are_not_json_are_refused() -> None:
    with pytest.raises(UsageError, match="extra"):
        check_options({}, {"a": {1, 2}}, "fake/small", UNKNOWN)  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": 1}, "fake/small does not accept the option 'temperature'; it accepts: max_output_tokens, own"),
        ({"max_output_tokens": 10}, "from 1 to 9"),
    ],
)
def test_an_option_that_the_model_does_not_accept_is_refused_before_a_write(options: dict[str, Any], said: str) -> None:
    model, store = Choosy(answer("a")), MemoryStore()

    async def run() -> None:
        async with runner_of(model, store=store) as runner:
            with pytest.raises(UsageError, match=said):
                await runner.run(agent(options=options), user_message="hi", thread_id="t")
            assert (await runner.run(agent(options={"own": {}}), user_message="hi", thread_id="t")).saved

    asyncio.run(run())
    assert len(model.requests) == 1


def test_an_option_that_a_fallback_does_not_accept_is_refused() -> None:
    chosen = agent(options={"temperature": 0}, fail_safe=FailSafeConfig(fallback_models=("other/small",)))

    async def run() -> None:
        async with runner_of(Scripted(), Choosy(name="other")) as runner:
            with pytest.raises(UsageError, match="other/small does not accept the option 'temperature'"):
                await runner.run(chosen, user_message="hi")

    asyncio.run(run())


def test_the_config_knows_the_same_options() -> None:
    assert set(OPTION_KEYS) == set(PORTABLE)


@pytest.mark.parametrize(("asked", "said"), [(9, None), (10, "from 1 to 9")])
def test_an_answer_longer_than_the_model_can_give_is_refused(asked: int, said: str | None) -> None:
    able = Capabilities(max_output_tokens=9)
    if said is None:
        check_options({"max_output_tokens": asked}, {}, "fake/small", able)
        return
    with pytest.raises(UsageError, match=said):
        check_options({"max_output_tokens": asked}, {}, "fake/small", able)
    wider = Capabilities(max_output_tokens=9, option_ranges={"max_output_tokens": (1, 20)})
    check_options({"max_output_tokens": asked}, {}, "fake/small", wider)
