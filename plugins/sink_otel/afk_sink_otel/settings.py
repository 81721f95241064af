"""The settings of the sink for OpenTelemetry."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from afkcli.plugin import ConfigError


@dataclass
class Settings:
    """`[sinks.otel]` in the user's config. The SDK also reads its other standard variables (`OTEL_*`).

    Attributes:
        endpoint: the URL of the receiver, without `/v1/traces`; "" means `http://localhost:4318`.
        headers: sent with every request, as in `OTEL_EXPORTER_OTLP_HEADERS`: `name=value,name=value`.
        service_name: the `service.name` of the resource; "" means `afk`.
        content: also send messages, arguments and results of tools, and texts of errors.
    """

    endpoint: str = field(default="", metadata={"env": "OTEL_EXPORTER_OTLP_ENDPOINT"})
    headers: str = field(default="", metadata={"secret": True, "env": "OTEL_EXPORTER_OTLP_HEADERS"})
    service_name: str = field(default="", metadata={"env": "OTEL_SERVICE_NAME"})
    content: bool = False


def check(settings: Settings) -> None:
    """Check the settings; `ConfigError` names the one that is not usable, without its value: it may hold a key."""
    if settings.endpoint and not _is_url(settings.endpoint):
        raise ConfigError("[sinks.otel] endpoint is not a URL that begins with http:// or https://")
    try:
        parse_headers(settings.headers)
    except ValueError:
        raise ConfigError("[sinks.otel] headers are not name=value, separated by commas") from None


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def parse_headers(text: str) -> dict[str, str]:
    """Return the headers of `name=value,name=value`, the values percent-encoded.

    Raises:
        ValueError: an item has no name or no `=`.
    """
    headers = {}
    for item in filter(None, map(str.strip, text.split(","))):
        name, separator, value = item.partition("=")
        if not separator or not name.strip():
            raise ValueError("an item is not name=value")
        headers[name.strip().lower()] = unquote(value.strip())
    return headers
