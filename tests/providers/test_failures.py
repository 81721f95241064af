"""What a failed call to a model server tells."""

from __future__ import annotations

import pytest

from afkcli.plugin import ErrorKind, http_error_kind


@pytest.mark.parametrize(
    ("status", "detail", "kind"),
    [
        (401, "", ErrorKind.AUTH),
        (402, "", ErrorKind.AUTH),
        (403, "", ErrorKind.AUTH),
        (404, "", ErrorKind.NOT_FOUND),
        (408, "", ErrorKind.TIMEOUT),
        (409, "", ErrorKind.OVERLOADED),
        (413, "", ErrorKind.CONTEXT_LENGTH),
        (418, "", ErrorKind.BAD_REQUEST),
        (422, "temperature must be a number", ErrorKind.BAD_REQUEST),
        (429, "", ErrorKind.RATE_LIMIT),
        (500, "", ErrorKind.OVERLOADED),
        (503, "", ErrorKind.OVERLOADED),
        (529, "", ErrorKind.OVERLOADED),
        (None, "", ErrorKind.OVERLOADED),
        (400, "This model's maximum context length is 8192 tokens", ErrorKind.CONTEXT_LENGTH),
        (400, "prompt is too long: 210000 tokens > 200000 maximum", ErrorKind.CONTEXT_LENGTH),
        (500, "the request exceeds the available context size", ErrorKind.CONTEXT_LENGTH),
        (None, "context_length_exceeded", ErrorKind.CONTEXT_LENGTH),
        (401, "no key for the model with the long context window", ErrorKind.AUTH),
        (429, "slow down; the context window is 8192 tokens", ErrorKind.RATE_LIMIT),
    ],
)
def test_the_error_kind_follows_the_status_and_the_words_about_the_context(
    status: int | None, detail: str, kind: ErrorKind
) -> None:
    assert http_error_kind(status, detail) is kind
