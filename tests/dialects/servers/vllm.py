"""vLLM: `reasoning`, long ids, errors within the stream; a gateway in front of it limits the rate with a page.

The fields are documented; the error within the stream is from public reports, the page is a gateway's.
"""

from __future__ import annotations

from tests.dialects.chat import GENERAL, Chunks, error, final, only_fields, own_ids, pieces, reasoning_back
from tests.dialects.dialect import HALF, Dialect, Failure, Json, Reply, body, stream

MODEL = "Qwen/Qwen3-32B"
IDS = ("chatcmpl-tool-0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a", "chatcmpl-tool-0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b")

chunks = Chunks(model=MODEL, id="chatcmpl-9f", choice={"logprobs": None, "token_ids": None})
_START = chunks.delta(role="assistant", content="") | {"prompt_token_ids": None}
_PAGE = (
    b"<html>\r\n<head><title>429 Too Many Requests</title></head>\r\n<body>\r\n<center>nginx</center></body></html>\r\n"
)


def _answer(finish: str, *items: Json) -> Reply:
    return Reply(stream(_START, *items, chunks.end(finish, {"stop_reason": None}, content=""), chunks.usage()))


VLLM = Dialect(
    name="vllm",
    source="https://docs.vllm.ai/en/latest/features/reasoning_outputs.html and .../features/tool_calling.html",
    model=MODEL,
    path="/v1/chat/completions",
    checks=(
        *GENERAL,
        only_fields(message=["reasoning"]),
        own_ids(IDS),
        reasoning_back("reasoning", "messages.{n}: the template wants the reasoning of a step with tool calls"),
    ),
    refuse=lambda words: error(words, "BadRequestError", 400, 400),
    plain=_answer("stop", *chunks.texts()),
    reasoning=_answer("stop", *chunks.thoughts("reasoning"), *chunks.texts()),
    calls=_answer("tool_calls", *chunks.thoughts("reasoning"), *pieces(chunks, IDS)),
    second=_answer("stop", *chunks.texts()),
    final=final(chunks),
    refused=Failure(
        reply=error(
            "mark: This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.",
            "BadRequestError",
            400,
            400,
        ),
        kind="context_length",
        left_out=True,
        says="mark: This model's maximum context length",
    ),
    wrong_key=Failure(reply=body({"error": "mark: Unauthorized"}, 401), kind="auth", says="mark: Unauthorized"),
    limited=Failure(reply=Reply(_PAGE, 429, {"Content-Type": "text/html"}), says="429 Too Many Requests"),
    cut=Failure(
        reply=Reply(
            stream(
                _START,
                *chunks.texts(HALF),
                {
                    "error": {
                        "message": "mark: EngineCore died",
                        "type": "InternalServerError",
                        "param": None,
                        "code": 500,
                    }
                },
            )
        ),
        kind="truncated",
        says="mark: EngineCore died",
    ),
)
