"""What a model's name says."""

from __future__ import annotations

import pytest
from afk_provider_anthropic.models import Claude, capabilities, claude


@pytest.mark.parametrize(
    ("model", "family", "version"),
    [
        ("claude-opus-5-5", "opus", (5, 5)),
        ("claude-sonnet-5", "sonnet", (5, 0)),
        ("claude-sonnet-4-5-20250929", "sonnet", (4, 5)),
        ("claude-opus-4-20250514", "opus", (4, 0)),
        ("claude-3-7-sonnet-latest", "sonnet", (3, 7)),
        ("claude-3-haiku-20240307", "haiku", (3, 0)),
        ("anthropic/claude-haiku-4-5", "haiku", (4, 5)),
        ("eu.anthropic.claude-opus-4-6-v1:0", "opus", (4, 6)),
        ("claude-next", "", (99, 0)),
    ],
)
def test_the_name_of_a_claude_model_is_understood(model: str, family: str, version: tuple[int, int]) -> None:
    assert claude(model) == Claude(family, version)


@pytest.mark.parametrize(
    ("model", "context", "output", "reasoning"),
    [
        ("claude-fable-5-2", 1_000_000, 128_000, True),
        ("claude-haiku-5-5", 1_000_000, 128_000, True),
        ("claude-sonnet-4-6", 1_000_000, 64_000, True),
        ("claude-haiku-4-5", 200_000, 64_000, True),
        ("claude-opus-4-1", 200_000, 32_000, True),
        ("claude-3-5-haiku-20241022", 200_000, 8_192, False),
    ],
)
def test_the_limits_of_a_model_follow_from_its_name(model: str, context: int, output: int, reasoning: bool) -> None:
    known = capabilities(model)
    assert (known.context_tokens, known.max_output_tokens, known.reasoning) == (context, output, reasoning)
    assert known.tools
    assert known.images
    assert known.files
    assert known.price is None


def test_the_first_models_that_see_read_no_pdf() -> None:
    assert capabilities("claude-3-haiku-20240307").images
    assert capabilities("claude-3-haiku-20240307").files is False


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("claude-opus-4-7", {"reasoning_effort"}),
        ("claude-haiku-5-5", {"reasoning_effort"}),
        ("claude-next", {"reasoning_effort"}),
        ("claude-opus-4-5", {"temperature", "top_p", "reasoning_effort"}),
        ("claude-haiku-4-5", {"temperature", "top_p"}),
        ("claude-3-5-haiku-20241022", {"temperature", "top_p"}),
        ("qwen3-8b", {"temperature", "top_p", "reasoning_effort"}),
    ],
)
def test_the_options_of_a_model_follow_from_its_name(model: str, options: set[str]) -> None:
    assert capabilities(model).options == options | {"max_output_tokens", "stop"}
    assert capabilities(model).option_ranges["temperature"] == (0, 1)


def test_no_limit_is_said_of_other_models() -> None:
    known = capabilities("qwen3-8b")
    assert (known.context_tokens, known.max_output_tokens, known.tools) == (None, None, None)
    assert known.structured_output is False
