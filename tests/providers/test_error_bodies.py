"""Errors as servers report them: the kind, the words and the wait, whatever the shape of the body."""

from __future__ import annotations

import json
from typing import Any

import pytest

from afkcli.plugin import ErrorKind
from afkcli.providers.error_bodies import read_error
from afkcli.providers.error_signs import is_error

WORDS = "it went wrong"

SHAPES: dict[str, Any] = {
    "OpenAI": {"error": {"message": WORDS, "type": "invalid_request_error", "code": None, "param": None}},
    "Anthropic": {"type": "error", "error": {"type": "invalid_request_error", "message": WORDS}, "request_id": "r"},
    "Google": {"error": {"code": 400, "message": WORDS, "status": "INVALID_ARGUMENT"}},
    "Google, in an array": [{"error": {"code": 400, "message": WORDS, "status": "INVALID_ARGUMENT"}}],
    "vLLM": {"object": "error", "message": WORDS, "type": "BadRequestError", "param": None, "code": 400},
    "FastAPI": {"detail": WORDS},
    "FastAPI, of fields": {"detail": [{"loc": ["body", "messages"], "msg": WORDS, "type": "value_error"}]},
    "FastAPI, around another": {"detail": {"error": {"message": WORDS}}},
    "a text under error": {"error": WORDS},
    "Text Generation Inference": {"error": WORDS, "error_type": "validation"},
    "Mistral": {"object": "error", "message": {"detail": [{"msg": WORDS, "loc": ["body"]}]}, "type": "x", "code": None},
    "Cloudflare": {"success": False, "errors": [{"code": 7003, "message": WORDS}], "result": None},
    "OpenRouter": {
        "error": {
            "code": 400,
            "message": "Provider returned error",
            "metadata": {"raw": json.dumps({"error": {"message": WORDS}}), "provider_name": "p"},
        }
    },
    "problem details": {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": WORDS},
    "a gateway's own": {"code": "Gateway.Error", "description": json.dumps({"message": WORDS}), "link": ""},
    "AWS": {"__type": "com.amazon.coral.service#ValidationException", "Message": WORDS},
    "MiniMax": {"base_resp": {"status_code": 1004, "status_msg": WORDS}},
    "JSON in JSON": {"error": {"message": json.dumps({"error": {"message": WORDS, "type": "x"}})}},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("status", [400, None])
def test_the_words_are_found_in_every_common_shape(shape: str, status: int | None) -> None:
    for body in (
        SHAPES[shape],
        json.dumps(SHAPES[shape]).encode(),
        b"\xef\xbb\xbf" + json.dumps(SHAPES[shape]).encode(),
    ):
        found = read_error(status, {}, body)
        assert WORDS in found.message
        assert "{" not in found.message
        assert status is None or found.kind is ErrorKind.BAD_REQUEST


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html><head><title>502 Bad\nGateway</title></head><body>...</body></html>", "an HTML page: 502 Bad Gateway"),
        (b"<html><body><h1>Not &amp; found</h1></body></html>", "an HTML page: Not & found"),
        (b"<!doctype html><p>x</p>", "an HTML page"),
        (b"<?xml version='1.0'?><Error><Code>Busy</Code><Message>come back</Message></Error>", "come back"),
        (b"upstream connect error", "upstream connect error"),
        (b'data: {"error": {"message": "in a stream"}}\n\n', "in a stream"),
        (b'event: error\ndata: {"type": "error", "error": {"message": "in a stream"}}\n\n', "in a stream"),
        (b'error: {"message": "in a field"}\n\n', "in a field"),
        (b'{"error": {"message": "cut', '{"error": {"message": "cut'),
        (b"", ""),
        (b"null", "null"),
        (b'{"error": {"code": "slow_down"}}', "slow_down"),
        (b'{"error": "invalid_token", "error_description": "it has expired"}', "it has expired"),
    ],
)
def test_the_words_of_pages_streams_and_plain_texts(body: bytes, words: str) -> None:
    assert read_error(503, {}, body).message == words


def openai(message: str, kind: str = "invalid_request_error", code: Any = None, param: str | None = None) -> Any:
    return {"error": {"message": message, "type": kind, "code": code, "param": param}}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        # a 4xx other than 408, 409, 425 and 429 is never retried, whatever its body says
        (400, {"type": "error", "error": {"type": "api_error", "message": "x"}}, ErrorKind.BAD_REQUEST),
        (400, openai("x", "server_error", "rate_limit_exceeded"), ErrorKind.BAD_REQUEST),
        (422, openai("x", "overloaded_error"), ErrorKind.BAD_REQUEST),
        (413, openai("Request too large: tokens per minute", code="rate_limit_exceeded"), ErrorKind.CONTEXT_LENGTH),
        (401, openai("x", "server_error"), ErrorKind.AUTH),
        (
            404,
            {"error": {"message": "model 'x' not found, try pulling it first", "type": "api_error"}},
            ErrorKind.NOT_FOUND,
        ),
        (405, {"detail": "Method Not Allowed"}, ErrorKind.NOT_FOUND),
        (425, b"", ErrorKind.OVERLOADED),
        (429, openai("x"), ErrorKind.RATE_LIMIT),
        # the model's name
        (
            400,
            openai("/chat/completions: Invalid model name passed in model=x. Call `/v1/models`", code="400"),
            ErrorKind.NOT_FOUND,
        ),
        (400, openai("400: {'error': 'Invalid model name passed in model=x'}", "None", 400), ErrorKind.NOT_FOUND),
        (400, openai("x is not a valid model ID", code=400), ErrorKind.NOT_FOUND),
        (400, openai("Model Not Exist"), ErrorKind.NOT_FOUND),
        (
            400,
            {"object": "error", "message": "Invalid model: x", "type": "invalid_model", "code": "1500"},
            ErrorKind.NOT_FOUND,
        ),
        (400, openai("The model `x` has been decommissioned", code="model_decommissioned"), ErrorKind.NOT_FOUND),
        (400, openai("No models loaded. Please load a model.", param="model"), ErrorKind.NOT_FOUND),
        (403, openai("Project p does not have access to model x", code="model_not_found"), ErrorKind.NOT_FOUND),
        (500, {"error": {"code": "DeploymentNotFound", "message": "x"}}, ErrorKind.NOT_FOUND),
        (
            None,
            {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404},
            ErrorKind.NOT_FOUND,
        ),
        # the key and the account
        (401, {"detail": "Not authenticated"}, ErrorKind.AUTH),
        (403, {"detail": "Not authenticated"}, ErrorKind.AUTH),
        (401, b"Not authenticated", ErrorKind.AUTH),
        (401, {"detail": [{"type": "missing", "loc": ["header", "authorization"], "msg": "x"}]}, ErrorKind.AUTH),
        (None, {"detail": "Not authenticated"}, ErrorKind.AUTH),
        (400, openai("Authentication Error, LiteLLM Virtual Key expected. Received=x", "auth_error"), ErrorKind.AUTH),
        (400, openai("Authentication Error, Invalid proxy server token passed", "None", "400"), ErrorKind.AUTH),
        (
            400,
            {
                "error": {
                    "code": 400,
                    "message": "API key not valid. Please pass a valid API key.",
                    "status": "INVALID_ARGUMENT",
                }
            },
            ErrorKind.AUTH,
        ),
        (
            400,
            {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: x"},
            ErrorKind.AUTH,
        ),
        (400, openai("Budget has been exceeded! Current cost: 1.2", "budget_exceeded"), ErrorKind.AUTH),
        (
            400,
            {"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low"}},
            ErrorKind.AUTH,
        ),
        (429, openai("You exceeded your current quota", "insufficient_quota", "insufficient_quota"), ErrorKind.AUTH),
        (429, {"error": {"message": "x", "type": "exceeded_current_quota_error"}}, ErrorKind.AUTH),
        (500, openai("litellm.AuthenticationError: Incorrect API key provided", "None", "500"), ErrorKind.AUTH),
        (402, openai("Insufficient Balance", "unknown_error"), ErrorKind.AUTH),
        (400, openai("No connected db.", "no_db_connection", "400"), ErrorKind.AUTH),
        (400, openai("User location is not supported for the API use.", code=400), ErrorKind.AUTH),
        (400, openai("Input token length too long", "invalid_request_error"), ErrorKind.CONTEXT_LENGTH),
        (400, openai("Your request exceeded model token limit : 8192", "x"), ErrorKind.CONTEXT_LENGTH),
        (503, openai("No connected db.", "no_db_connection", "503"), ErrorKind.OVERLOADED),
        (400, openai("expired", "expired_key", "400"), ErrorKind.AUTH),
        (400, openai("not in the table", "token_not_found_in_db", "400"), ErrorKind.AUTH),
        (400, openai("no access to garden", "team_model_access_denied", "400"), ErrorKind.AUTH),
        # the length and the content
        (
            400,
            {
                "type": "error",
                "error": {"type": "invalid_request_error", "message": "prompt is too long: 2 tokens > 1"},
            },
            ErrorKind.CONTEXT_LENGTH,
        ),
        (
            400,
            {
                "error": {
                    "code": 400,
                    "message": "The input token count (2) exceeds the maximum number of tokens allowed (1).",
                    "status": "INVALID_ARGUMENT",
                }
            },
            ErrorKind.CONTEXT_LENGTH,
        ),
        (
            400,
            openai("request (9 tokens) exceeds the available context size (8)", "exceed_context_size_error", 400),
            ErrorKind.CONTEXT_LENGTH,
        ),
        (
            400,
            {
                "error": {
                    "code": "content_filter",
                    "message": "x",
                    "innererror": {"code": "ResponsibleAIPolicyViolation"},
                }
            },
            ErrorKind.CONTENT_FILTER,
        ),
        (
            403,
            {"error": {"code": 403, "message": "Your input was flagged", "metadata": {"flagged_input": "x"}}},
            ErrorKind.CONTENT_FILTER,
        ),
        # of the request alone
        (
            400,
            openai(
                "Unsupported parameter: 'max_tokens' is not supported with this model.",
                code="unsupported_parameter",
                param="max_tokens",
            ),
            ErrorKind.BAD_REQUEST,
        ),
        (400, openai("This model does not support image input"), ErrorKind.BAD_REQUEST),
        (400, openai("Invalid value for 'messages[0].role'"), ErrorKind.BAD_REQUEST),
        # failures that pass
        (500, openai("x", "invalid_request_error"), ErrorKind.OVERLOADED),
        (503, openai("Loading model", "unavailable_error", 503), ErrorKind.OVERLOADED),
        (500, {"type": "error", "error": {"type": "timeout_error", "message": "x"}}, ErrorKind.TIMEOUT),
        (529, b"", ErrorKind.OVERLOADED),
        # within a stream whose status is 200
        (200, {"object": "error", "message": "x", "type": "BadRequestError", "code": 400}, ErrorKind.BAD_REQUEST),
        (None, {"error": {"message": "x", "code": 400}}, ErrorKind.BAD_REQUEST),
        (None, {"error": {"message": "x", "type": "server_error"}}, ErrorKind.OVERLOADED),
        (None, {"error": {"message": "x", "code": "429"}}, ErrorKind.RATE_LIMIT),
        (None, {"error": {"message": "x", "code": 429.0}}, ErrorKind.RATE_LIMIT),
        (None, {"error": {"message": "x", "code": "invalid_prompt"}}, ErrorKind.BAD_REQUEST),
        (None, {"type": "error", "code": "unknown_parameter", "message": "x", "param": None}, ErrorKind.BAD_REQUEST),
        (None, {"type": "error", "code": "missing_required_parameter", "message": "x"}, ErrorKind.BAD_REQUEST),
        (None, {"type": "error", "code": "integer_below_min_value", "message": "x"}, ErrorKind.BAD_REQUEST),
        (None, {"type": "error", "code": "string_too_long", "message": "x"}, ErrorKind.BAD_REQUEST),
        (None, {"type": "error", "code": None, "message": "x", "param": "reasoning.effort"}, ErrorKind.BAD_REQUEST),
        (None, {"type": "error", "code": None, "message": "Unknown parameter: 'store'."}, ErrorKind.BAD_REQUEST),
        (None, {"error": "context_management: Extra inputs are not permitted"}, ErrorKind.BAD_REQUEST),
        (None, {"detail": [{"type": "extra_forbidden", "loc": ["body", "a"], "msg": "x"}]}, ErrorKind.BAD_REQUEST),
        (None, {"error": {"message": "x", "code": "server_error", "param": "model"}}, ErrorKind.NOT_FOUND),
        (None, {"error": {"message": "x", "code": "server_error", "param": "store"}}, ErrorKind.OVERLOADED),
        (None, {"type": "error", "code": "unknown_error", "message": "x", "param": None}, ErrorKind.OVERLOADED),
        (None, {"error": {"message": "An unexpected error occurred", "param": ""}}, ErrorKind.OVERLOADED),
        (None, {"error": "Rate limit reached"}, ErrorKind.RATE_LIMIT),
        (None, {"error": WORDS}, ErrorKind.OVERLOADED),
    ],
)
def test_the_kind_follows_the_fault(status: int | None, body: Any, kind: ErrorKind) -> None:
    assert read_error(status, {}, body).kind is kind


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after": "7"}, {"error": {"message": "Please try again in 20s"}}, 7.0),
        ({}, {"error": {"message": "x", "details": [{"@type": "t/RetryInfo", "retryDelay": "37s"}]}}, 37.0),
        ({}, [{"error": {"message": "x", "details": [{"retryDelay": "3.5s"}]}}], 3.5),
        ({}, {"error": {"message": "Rate limit reached. Please try again in 1m2.5s."}}, 62.5),
        ({}, {"error": {"message": "Please try again in 350ms."}}, 0.35),
        ({}, {"error": {"message": "Please retry after 20 seconds."}}, 20.0),
        ({}, {"error": {"message": "x"}, "retry_after": 4}, 4.0),
        ({}, {"error": {"message": "try again later"}}, None),
        ({}, {"error": {"message": "try again"}, "retry_after": -4}, None),
    ],
)
def test_the_wait_is_read_from_the_header_the_body_or_the_words(
    headers: dict[str, str], body: Any, seconds: float | None
) -> None:
    assert read_error(429, headers, body).retry_after == seconds


def test_a_body_in_an_unrequested_encoding_is_an_error_that_says_so() -> None:
    found = read_error(500, {"content-encoding": "br"}, bytes(range(128, 200)))
    assert found.message == "a body in the encoding 'br', which afk did not ask for"


def test_a_body_of_great_depth_costs_nothing() -> None:
    assert read_error(400, {}, b"[" * 100_000).kind is ErrorKind.BAD_REQUEST
    deep: Any = "x"
    for _ in range(500):
        deep = {"error": deep}
    assert read_error(400, {}, deep).kind is ErrorKind.BAD_REQUEST


@pytest.mark.parametrize("shape", [name for name in SHAPES if name not in ("a gateway's own", "AWS", "MiniMax")])
def test_an_event_is_recognised_as_an_error(shape: str) -> None:
    assert is_error(SHAPES[shape])


@pytest.mark.parametrize(
    "value",
    [
        {"choices": []},
        {"choices": [{"delta": {"content": "x"}}], "error": None},
        {"id": "chatcmpl-1", "object": "chat.completion.chunk", "message": "x"},
        {"type": "ping"},
        {"type": "message_start", "message": {"id": "m"}},
        [],
        "x",
    ],
)
def test_an_event_of_an_answer_is_not_an_error(value: Any) -> None:
    assert not is_error(value)
