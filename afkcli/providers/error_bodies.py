"""What a server says of an error, in whatever shape: OpenAI's, Anthropic's, Google's, vLLM's, FastAPI's, a gateway's.

The status decides what can be retried, the body what is wrong. A server may report a wrong key or an unknown model with
400, or any error within a stream whose status is 200; so codes and words of the body are read too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from afkcli.core.contract.errors import RETRIED_KINDS, ErrorKind
from afkcli.core.contract.jsonform import Json, JsonObject
from afkcli.core.contract.structs import FrozenStruct, Struct, field
from afkcli.core.contract.text import collapsed
from afkcli.providers.error_signs import RETRIED_STATUSES
from afkcli.providers.failures import http_error_kind, retry_after
from afkcli.providers.named_message import NamedMessage, named_message
from afkcli.providers.sse import EventParser

_MAX_DEPTH = 6
_MAX_ITEMS = 8

_CODES: Mapping[ErrorKind, str] = {
    # A used-up quota counts as `auth`: waiting does not help, and the question is kept for the next turn.
    ErrorKind.AUTH: """
        invalid_api_key incorrect_api_key incorrect_api_key_error api_key_invalid missing_api_key authentication_error
        auth_error invalid_authentication invalid_authentication_error unauthenticated unauthorized unauthorized_error
        permission_error permission_denied permission_denied_error forbidden forbidden_error access_denied
        access_denied_exception unrecognized_client_exception expired_token_exception invalid_token token_expired
        insufficient_quota insufficient_balance insufficient_credits exceeded_current_quota_error payment_required
        billing_error billing_not_active billing_hard_limit_reached account_deactivated budget_exceeded arrearage
        expired_key token_not_found_in_db key_model_access_denied team_model_access_denied user_model_access_denied
        customer_model_access_denied org_model_access_denied project_model_access_denied agent_model_access_denied
    """,
    ErrorKind.NOT_FOUND: """
        model_not_found not_found not_found_error resource_not_found resource_not_found_error
        resource_not_found_exception deployment_not_found model_not_available model_not_exist model_decommissioned
        model_not_supported unknown_model invalid_model unsupported_model
    """,
    ErrorKind.CONTEXT_LENGTH: """
        context_length_exceeded exceed_context_size_error string_above_max_length context_window_exceeded
        context_window_exceeded_error request_too_large
    """,
    ErrorKind.CONTENT_FILTER: """
        content_filter content_policy_violation content_policy_violation_error moderation_blocked bio_policy
        misalignment_policy_violation image_content_policy_violation responsible_ai_policy_violation
        data_inspection_failed
    """,
    ErrorKind.RATE_LIMIT: """
        rate_limit_exceeded rate_limit_error rate_limit_reached_error rate_limited resource_exhausted too_many_requests
        throttling throttling_exception
    """,
    ErrorKind.TIMEOUT: """
        timeout timeout_error request_timeout gateway_timeout deadline_exceeded vector_store_timeout
        model_timeout_exception
    """,
    ErrorKind.OVERLOADED: """
        server_error api_error overloaded overloaded_error engine_overloaded_error model_overloaded
        server_is_overloaded slow_down unavailable unavailable_error service_unavailable service_unavailable_error
        service_unavailable_exception internal internal_error internal_server_error internal_server_exception
        conflict_error bad_gateway bad_gateway_error api_connection_error model_not_ready_exception
    """,
    ErrorKind.BAD_REQUEST: """
        invalid_request_error bad_request bad_request_error invalid_argument validation_error validation_exception
        unsupported_parameter unsupported_value failed_precondition unprocessable_entity unprocessable_entity_error
    """,
}
_KIND_BY_CODE = {code: kind for kind, codes in _CODES.items() for code in codes.split()}
_TELLING = frozenset({ErrorKind.AUTH, ErrorKind.NOT_FOUND, ErrorKind.CONTEXT_LENGTH, ErrorKind.CONTENT_FILTER})
_BAD_REQUEST_CODE = re.compile(
    r"^invalid_|^unsupported_|image|_(?:above_max|below_min)_|_(?:too_long|too_short|forbidden)$"
    r"|^(?:unknown|unexpected|unrecognized|missing|extra|duplicate|conflicting)_(?:\w+_)?"
    r"(?:parameters?|params?|fields?|arguments?|args?|keys?|propert(?:y|ies)|values?|inputs?)$"
)

_ACCOUNT_WORDS = re.compile(
    r"insufficient[ _](?:quota|balance|credits|funds)|credit balance is too low|specified API usage limits"
    r"|(?:budget|spend(?:ing)? limit) (?:has been |was )?(?:exceeded|reached)"
    r"|spend_limit_reached|billing_unavailable|organization_on_hold|organization_type"
    r"|account (?:is|has been) (?:deactivated|suspended)"
    r"|(?:location|country, region, or territory) (?:is )?not supported",
    re.IGNORECASE,
)
_CONTEXT_WORDS = re.compile(
    r"context[ _](?:length|size|window)|exceed(?:s|ed)? (?:the )?(?:model'?s? )?(?:context|token limit)|context limit"
    r"|(?:prompt|input|request|messages?) (?:(?:is|are|was)|token length) too (?:long|large)"
    r"|range of input length|too many (?:input )?tokens"
    r"|(?:token|input) count[^.]{0,60}exceeds|maximum number of (?:input )?tokens|reduce the length",
    re.IGNORECASE,
)
_CONTENT_WORDS = re.compile(
    r"content[ _](?:filter|policy|management policy)|ResponsibleAIPolicy|input was flagged|flagged_input", re.IGNORECASE
)
_KEY_WORDS = re.compile(
    r"(?:invalid|incorrect|missing|wrong|expired|revoked|malformed|bad|no|unknown)\b[^.:;]{0,40}"
    r"(?:\bapi[ _-]?keys?\b|\bauth(?:entication|orization)? (?:token|header|key)|access token|credentials"
    r"|proxy server token)"
    r"|\b(?:api[ _-]?key|access token|auth token|virtual key)\b[^.;]{0,40}"
    r"(?:(?:not|in)[ -]?valid|incorrect|missing|expired|required|expected|revoked|not found|not provided|disabled)"
    r"|authenticat\w+ (?:error|fail|required)|unauthori[sz]ed|unauthenticated|not authenticated"
    # LiteLLM's proxy without a database, for any key that is not its own.
    r"|no_db_connection|no connected db",
    re.IGNORECASE,
)
_MODEL_WORDS = re.compile(
    r"\bmodel\b[^.;]{0,120}?(?:not[ -]found|not exist|n't exist|not available|unavailable for|unknown|decommissioned"
    r"|no longer (?:available|supported)|not a valid model|not loaded|has been (?:removed|retired|deprecated))"
    r"|(?:invalid|unknown|no such|not find(?: the)?|not found the|cannot find(?: the)?|unrecognized|non-?existent) "
    r"(?:model|deployment)\b(?! (?:output|response|parameter|option|config))"
    r"|not a valid model|no models? (?:is |are )?loaded"
    r"|no endpoints found for|deployment[^.;]{0,80} does not exist",
    re.IGNORECASE,
)
_REQUEST_WORDS = re.compile(
    r"\b(?:unknown|unsupported|unexpected|unrecognized|unrecognised|extra|missing)\b[^.:;]{0,30}?"
    r"\b(?:parameters?|params?|fields?|arguments?|propert(?:y|ies)|inputs?)\b",
    re.IGNORECASE,
)
_RATE_WORDS = re.compile(r"rate[ _-]?limit|too many requests|quota exceeded", re.IGNORECASE)
_WAIT_WORDS = re.compile(
    r"(?:try again|retry|wait)[^.\d]{0,20}(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?) ?(ms|s)\w*)?", re.IGNORECASE
)

_MESSAGES = (
    *("message", "Message", "msg", "error_description", "error_message", "errorMessage", "error_msg"),
    *("detail", "title", "status_msg", "raw", "description"),
)
_CODE_NAMES = (
    *("code", "type", "error_code", "errorCode", "error_type", "reason", "status", "__type", "name"),
    *("statusCode", "status_code", "http_code"),
)
_INNER = (
    *("error", "errors", "detail", "details", "innererror", "inner_error", "metadata", "base_resp", "response"),
    *("body", "exception", "error_details", "message"),
)


class ServerError(FrozenStruct, kw_only=True):
    """An error as a server told it.

    Attributes:
        kind: what it means for the run.
        code: the most telling of its codes, in lower case with underscores; empty where it gives none.
        message: its own words, not yet masked; empty where it gives none.
        retry_after: seconds that it asks to wait.
        status: the HTTP status, or the one that the body names if HTTP's was not an error.
        named: the message of the request that it names, if it names one.

    Since: 0.2.
    """

    kind: ErrorKind
    code: str = ""
    message: str = ""
    retry_after: float | None = None
    status: int | None = None
    named: NamedMessage | None = None


def read_error(status: int | None, headers: Mapping[str, str], body: Json | bytes) -> ServerError:
    """Return the error that a response, or an event of a stream, tells of.

    Args:
        status: the HTTP status; None, or one below 400, if it was not an error.
        headers: those of the response.
        body: the bytes of the response, its text, or a JSON value that was read already.

    Since: 0.2.
    """
    found = _Found()
    if isinstance(body, bytes):
        body = _decoded(body, headers)
    _read(body, found, 0)
    told = status if status is not None and status >= 300 else found.status
    message = found.message()
    waits = retry_after(headers)
    if waits is None:
        waits = found.wait if found.wait is not None else _wait_in_words(message)
    kind = _kind(told, found, f"{' '.join(found.codes)} {message}")
    named = named_message([*found.parameters, *found.messages])
    return ServerError(kind=kind, code=found.code(), message=message, retry_after=waits, status=told, named=named)


class _Found(Struct):
    """What was found in a body."""

    codes: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)
    status: int | None = None
    wait: float | None = None
    names_model: bool = False

    def code(self) -> str:
        return next((code for code in self.codes if code in _KIND_BY_CODE), self.codes[0] if self.codes else "")

    def message(self) -> str:
        """Return what was said, each thing once, the outer before the inner."""
        said: list[str] = []
        for text in self.messages:
            if not any(text in other for other in said):
                said = [other for other in said if other not in text] + [text]
        return "; ".join(said) or next((code for code in self.codes if not code.isdigit()), "")

    def kinds(self) -> list[ErrorKind]:
        return [_KIND_BY_CODE[code] for code in self.codes if code in _KIND_BY_CODE]


def _decoded(body: bytes, headers: Mapping[str, str]) -> str:
    text = body.decode("utf-8-sig", "replace")
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding and "\ufffd" in text[:100]:
        return f"a body in the encoding {encoding!r}, which afk did not ask for"
    return text


def _read(value: Json, found: _Found, depth: int) -> None:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, str):
        _read_text(value.strip(), found, depth)
    elif isinstance(value, list):
        for item in value[:_MAX_ITEMS]:
            _read(item, found, depth + 1)
    elif isinstance(value, dict):
        _read_object(value, found, depth)


def _read_text(text: str, found: _Found, depth: int) -> None:
    if text.startswith(("{", "[")):
        try:
            _read(json.loads(text), found, depth + 1)
        except (ValueError, RecursionError):
            found.messages.append(text)
    elif text.startswith(("data:", "event:", "error:")):
        for part in _events_in(text):
            _read(part, found, depth + 1)
    elif text.startswith("<"):
        found.messages.append(_page(text))
    elif text:
        found.messages.append(text)


def _events_in(text: str) -> list[str]:
    parser = EventParser()
    events = parser.feed(text.encode("utf-8", "replace")) + parser.close()
    strays = "\n".join(parser.strays).removeprefix("error:").strip()
    return [event for event in [*events, strays] if event and event != text]


def _page(text: str) -> str:
    """Return what a page for people, or an error in XML, says."""
    for name in ("Message", "title", "h1"):
        match = re.search(rf"<{name}\b[^>]*>(.*?)</{name}>", text[:16_384], re.DOTALL | re.IGNORECASE)
        from html import unescape

        said = collapsed(unescape(re.sub(r"<[^>]*>", " ", match[1]))) if match else ""
        if said:
            return said if name == "Message" else f"an HTML page: {said}"
    return "an HTML page"


def _read_object(value: JsonObject, found: _Found, depth: int) -> None:
    for name in _CODE_NAMES:
        _read_code(value.get(name), found)
    parameter = value.get("param")
    found.names_model = found.names_model or parameter == "model"
    if isinstance(parameter, str):
        found.parameters.append(parameter)
    _read_wait(value, found)
    place = value.get("loc")
    for name in _MESSAGES:
        said = value.get(name)
        if isinstance(said, str) and said.strip():
            where = f"{'.'.join(map(str, place))}: " if isinstance(place, list) else ""
            _read_text(f"{where}{said.strip()}", found, depth + 1)
    for name in _INNER:
        inner = value.get(name)
        if isinstance(inner, (dict, list)):
            _read(inner, found, depth + 1)
        elif name in ("error", "errors", "exception") and isinstance(inner, str):
            _read_word(inner.strip(), found, depth)


def _read_word(text: str, found: _Found, depth: int) -> None:
    """Take a text that is a code where it is one word, and a message where it is more."""
    if re.fullmatch(r"[\w.-]+", text):
        _read_code(text, found)
        if not found.messages and text != "error":
            found.messages.append(text)
    else:
        _read_text(text, found, depth + 1)


def _read_code(value: Json, found: _Found) -> None:
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
        number = int(value)
        if 400 <= number <= 599:
            found.status = found.status or number
        elif number:
            found.codes.append(str(number))
    elif isinstance(value, str) and value.strip():
        code = _plain_code(value)
        if code not in ("error", "about:blank", "none", "null"):
            found.codes.append(code)


def _plain_code(text: str) -> str:
    """Return a code in the form of `_KIND_BY_CODE`: `AuthenticationError` and `AUTHENTICATION_ERROR` are the same."""
    word = re.split(r"[#:]", text.strip())[-1 if "#" in text else 0].strip() or text
    word = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", word.rpartition("/")[2])
    return re.sub(r"[\s.-]+", "_", word).lower()[:80]


def _read_wait(value: JsonObject, found: _Found) -> None:
    """Take the seconds to wait that a body names: Google's `retryDelay` ("37s"), others' `retry_after`."""
    for name in ("retryDelay", "retry_after", "retry_after_seconds", "retryAfter"):
        text = str(value.get(name) or "").strip().removesuffix("s")
        if re.fullmatch(r"\d+(\.\d+)?", text):
            found.wait = float(text)


def _wait_in_words(message: str) -> float | None:
    match = _WAIT_WORDS.search(message)
    if match is None or not any(match.groups()[:3]):
        return None
    hours, minutes, rest, unit = match.groups()
    seconds = float(rest or 0) / (1000 if (unit or "").lower() == "ms" else 1)
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + seconds


def _kind(status: int | None, found: _Found, text: str) -> ErrorKind:
    kinds = found.kinds()
    telling = next((kind for kind in kinds if kind in _TELLING), None) or _kind_by_words(status, found, text)
    if telling is not None:
        return telling
    if status is None:
        return _kind_without_status(kinds, found, text)
    kind = http_error_kind(status)
    if status >= 500:
        return next((kind for kind in kinds if kind in RETRIED_KINDS), kind)
    if kind in RETRIED_KINDS and status not in RETRIED_STATUSES:
        return ErrorKind.BAD_REQUEST
    return kind


def _kind_by_words(status: int | None, found: _Found, text: str) -> ErrorKind | None:
    """Return the kind that the words tell, where the status leaves it open."""
    if _ACCOUNT_WORDS.search(text):
        return ErrorKind.AUTH
    if status == 403 and _CONTENT_WORDS.search(text):
        return ErrorKind.CONTENT_FILTER
    if status not in (None, 400, 413, 422, 500):
        return None
    for words, kind in (
        (_CONTEXT_WORDS, ErrorKind.CONTEXT_LENGTH),
        (_CONTENT_WORDS, ErrorKind.CONTENT_FILTER),
        (_KEY_WORDS, ErrorKind.AUTH),
        (_MODEL_WORDS, ErrorKind.NOT_FOUND),
    ):
        if words.search(text):
            return kind
    return ErrorKind.NOT_FOUND if found.names_model and status in (None, 400, 422) else None


def _kind_without_status(kinds: Sequence[ErrorKind], found: _Found, text: str) -> ErrorKind:
    if kinds:
        return kinds[0]
    if any(_BAD_REQUEST_CODE.search(code) for code in found.codes):
        return ErrorKind.BAD_REQUEST
    if _RATE_WORDS.search(text):
        return ErrorKind.RATE_LIMIT
    # An error that names a parameter is about the request, which fails again as it is.
    about_request = any(found.parameters) or _REQUEST_WORDS.search(text) is not None
    return ErrorKind.BAD_REQUEST if about_request else ErrorKind.OVERLOADED
