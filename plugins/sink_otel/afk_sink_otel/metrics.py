"""The metrics of runs, model calls and tool calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from afk_sink_otel import names

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram, Meter

    from afkcli.plugin import Usage

Attributes = Mapping[str, str | bool | int | float]

# The boundaries of the buckets, as the conventions ask for them.
_CALL_SECONDS = [0.01 * 2**n for n in range(14)]
_RUN_SECONDS = [0.1 * 2**n for n in range(13)]
_TOKENS = [float(4**n) for n in range(14)]
_CALLS = [float(2**n) for n in range(8)]


class Metrics:
    """The instruments of one meter; each method records one operation that has ended.

    Args:
        meter: makes the instruments.
    """

    def __init__(self, meter: Meter) -> None:
        def histogram(name: str, unit: str, description: str, boundaries: list[float]) -> Histogram:
            return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=boundaries)

        self._call_seconds = histogram(names.INFERENCE_DURATION, "s", "Duration of model calls.", _CALL_SECONDS)
        self._first_chunk = histogram(
            names.INFERENCE_TIME_TO_FIRST_CHUNK, "s", "Time until the first chunk of an answer.", _CALL_SECONDS
        )
        self._call_input = histogram(
            names.OPERATION_INPUT_TOKENS, "{token}", "Input tokens of each model call.", _TOKENS
        )
        self._call_output = histogram(
            names.OPERATION_OUTPUT_TOKENS, "{token}", "Output tokens of each model call.", _TOKENS
        )
        self._run_seconds = histogram(names.AGENT_DURATION, "s", "Duration of runs.", _RUN_SECONDS)
        self._inference_calls = histogram(
            names.AGENT_INFERENCE_CALLS, "{inference_call}", "Model calls of each run.", _CALLS
        )
        self._tool_calls = histogram(names.AGENT_TOOL_CALLS, "{tool_call}", "Tool calls of each run.", _CALLS)
        self._tool_seconds = histogram(names.TOOL_DURATION, "s", "Duration of tool calls.", _CALL_SECONDS)
        self._spent = {
            field: meter.create_counter(name, "{token}", description)
            for field, name, description in (
                ("input_tokens", names.USAGE_INPUT_TOKENS, "Input tokens, cached ones included."),
                ("output_tokens", names.USAGE_OUTPUT_TOKENS, "Output tokens, reasoning included."),
                ("cache_read_input_tokens", names.USAGE_CACHE_READ_TOKENS, "Input tokens read from a cache."),
                ("cache_creation_input_tokens", names.USAGE_CACHE_WRITE_TOKENS, "Input tokens written to a cache."),
                ("reasoning_output_tokens", names.USAGE_REASONING_TOKENS, "Output tokens of reasoning."),
            )
        }

    def model_call(self, attributes: Attributes, seconds: float, first_chunk: float | None) -> None:
        """Record a model call, failed ones included; `first_chunk` is None if nothing was streamed."""
        self._call_seconds.record(seconds, attributes)
        if first_chunk is not None:
            without_error = {name: value for name, value in attributes.items() if name != names.ERROR_TYPE}
            self._first_chunk.record(first_chunk, without_error)

    def tokens(self, attributes: Attributes, usage: Usage) -> None:
        """Record the tokens of a model call; counts that the provider did not report are left out."""
        for field, counter in self._spent.items():
            count = getattr(usage, field)
            if field not in usage.unknown and (count or field in ("input_tokens", "output_tokens")):
                counter.add(count, {**attributes, names.TOKEN_MODALITY: names.UNKNOWN_MODALITY})
        if "input_tokens" not in usage.unknown:
            self._call_input.record(usage.input_tokens, attributes)
        if "output_tokens" not in usage.unknown:
            self._call_output.record(usage.output_tokens, attributes)

    def tool_call(self, attributes: Attributes, seconds: float) -> None:
        """Record a tool call."""
        self._tool_seconds.record(seconds, attributes)

    def run(self, agent: Attributes, seconds: float, error: Attributes, inference_calls: int, tool_calls: int) -> None:
        """Record a run: the attributes of its agent, and those of its error, if it has one."""
        self._run_seconds.record(seconds, {**agent, **error})
        self._inference_calls.record(inference_calls, agent)
        self._tool_calls.record(tool_calls, agent)
