"""Images and files as the APIs take them: base64 in the request itself."""

from __future__ import annotations

import base64

from afkcli.core.contract.errors import ErrorKind, ProviderError
from afkcli.core.contract.messages import ImagePart, ModelRequest
from afkcli.core.contract.structs import replace
from afkcli.core.thread.attachments import AttachedPart, attached_parts, is_text, label

IMAGE_TOKENS = 1600


def base64_content(request: ModelRequest, part: AttachedPart) -> str:
    """Return the content of a part in base64.

    Raises:
        ProviderError: `bad_request`, if the request does not have it.
    """
    try:
        return base64.b64encode(request.content(part.sha256)).decode("ascii")
    except KeyError:
        raise ProviderError(f"the content of {label(part)} is not there", kind=ErrorKind.BAD_REQUEST) from None


def data_url(request: ModelRequest, part: AttachedPart) -> str:
    """Return the content of a part as a `data:` URL (RFC 2397); raises as `base64_content`."""
    return f"data:{part.media_type};base64,{base64_content(request, part)}"


def estimated(request: ModelRequest) -> tuple[ModelRequest, int]:
    """Return the request without the contents of what is attached, and an estimate of the tokens that these are.

    Base64 says nothing of tokens. An image is at most about 1,600
    (https://platform.claude.com/docs/en/build-with-claude/vision), a page of a PDF two or three thousand and often
    50 kB.
    """
    parts = {part for part in attached_parts(request.messages) if not is_text(part)}
    tokens = sum(IMAGE_TOKENS if isinstance(part, ImagePart) else max(IMAGE_TOKENS, part.size // 20) for part in parts)
    return replace(request, content=lambda sha256: b""), tokens


def cannot_send(part: AttachedPart) -> ProviderError:
    """Return the error for a part that the API has no form for."""
    what = f"this provider cannot send {label(part)} ({part.media_type})"
    return ProviderError(f"{what}; leave it out", kind=ErrorKind.BAD_REQUEST)
