"""Token counts as servers write them, in the form of Chat Completions."""

from __future__ import annotations

from typing import Any

import pytest

from afkcli.plugin import ModelResponse, Usage
from afkcli.providers.chat_answer import ChatAnswer
from afkcli.providers.chat_usage import usage_from
from afkcli.providers.tool_names import ToolNames

PLAIN = {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}
READ = Usage(input_tokens=12, output_tokens=7, total_tokens=19)


@pytest.mark.parametrize(
    ("usage", "wanted"),
    [
        (PLAIN, READ),
        ({"prompt_tokens": 12.0, "completion_tokens": 7.0, "total_tokens": 19.0}, READ),
        ({"prompt_tokens": "12", "completion_tokens": "7"}, READ),
        ({"input_tokens": 12, "output_tokens": 7}, READ),
        ({"prompt_tokens": 12, "total_tokens": 19}, READ),
        ({"completion_tokens": 7, "total_tokens": 19}, READ),
        ({**PLAIN, "prompt_tokens_details": None, "completion_tokens_details": None}, READ),
        (
            {"prompt_tokens": -12, "completion_tokens": 7},
            Usage(output_tokens=7, unknown=("input_tokens", "total_tokens")),
        ),
        (
            {"prompt_tokens": 12, "completion_tokens": 7.5},
            Usage(input_tokens=12, unknown=("output_tokens", "total_tokens")),
        ),
        (
            {"prompt_tokens": None, "total_tokens": 19},
            Usage(total_tokens=19, unknown=("input_tokens", "output_tokens")),
        ),
        (
            {**PLAIN, "prompt_tokens_details": {"cached_tokens": -3}},
            Usage(input_tokens=12, output_tokens=7, total_tokens=19, unknown=("cache_read_input_tokens",)),
        ),
        # DeepSeek
        (
            {**PLAIN, "prompt_cache_hit_tokens": 8, "prompt_cache_miss_tokens": 4},
            Usage(input_tokens=12, output_tokens=7, total_tokens=19, cache_read_input_tokens=8),
        ),
        (
            {"prompt_cache_hit_tokens": 8, "prompt_cache_miss_tokens": 4, "completion_tokens": 7},
            Usage(input_tokens=12, output_tokens=7, total_tokens=19, cache_read_input_tokens=8),
        ),
        # Moonshot
        (
            {**PLAIN, "cached_tokens": 8},
            Usage(input_tokens=12, output_tokens=7, total_tokens=19, cache_read_input_tokens=8),
        ),
        # xAI, whose completion leaves the reasoning out and whose total has it
        (
            {**PLAIN, "total_tokens": 24, "completion_tokens_details": {"reasoning_tokens": 5}},
            Usage(input_tokens=12, output_tokens=12, total_tokens=24, reasoning_output_tokens=5),
        ),
        (
            {**PLAIN, "completion_tokens_details": {"reasoning_tokens": 5}},
            Usage(input_tokens=12, output_tokens=7, total_tokens=19, reasoning_output_tokens=5),
        ),
    ],
)
def test_counts_in_other_forms_and_places(usage: dict[str, Any], wanted: Usage) -> None:
    assert usage_from(usage) == wanted


def answered(*chunks: dict[str, Any]) -> ModelResponse:
    answer = ChatAnswer(ToolNames([]), "the server")
    for chunk in chunks:
        list(answer.chunk(chunk))
    return answer.response()


STOP = {"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}


@pytest.mark.parametrize(
    "chunks",
    [
        [{"choices": [STOP], "usage": PLAIN}],
        [{"choices": [STOP], "usage": None}, {"choices": [], "usage": PLAIN}],
        [{"choices": [{**STOP, "usage": PLAIN}]}],
        [{"choices": [STOP], "x_groq": {"id": "r", "usage": PLAIN}}],
        [{"choices": [STOP], "usage": {"prompt_tokens": 1, "completion_tokens": 0}}, {"choices": [], "usage": PLAIN}],
        [{"choices": [STOP], "usage": PLAIN}, {"choices": [], "usage": {}}],
        [{"choices": [STOP], "usage": PLAIN}, {"choices": [], "usage": {"prompt_tokens": None}}],
    ],
)
def test_the_usage_is_found_wherever_servers_put_it(chunks: list[dict[str, Any]]) -> None:
    assert answered(*chunks).usage == READ
