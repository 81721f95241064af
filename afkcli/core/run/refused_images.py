"""Whether a server refuses a request because of the images that tools returned in it.

Servers say it in many ways. Models without vision: "image_url is only supported by certain models" (OpenAI), "is not a
multimodal model" (vLLM), "Image input is not enabled for this model" (Mistral). APIs that take no image there: "Output
of tool call should be 'Input text'" (llama.cpp), "content must be a string" (Groq), "Unexpected role 'user' after role
'tool'" (Mistral). Limits: "image exceeds 5 MB maximum" (Anthropic), and 413 for all of a request.
"""

from __future__ import annotations

import re

from afkcli.core.contract.errors import ErrorKind, ProviderError
from afkcli.core.contract.lazy_pattern import LazyPattern

_TOO_LARGE = 413
_FAULTS = (500, 501)
"""llama.cpp's server says with 500 that a model has no vision."""

_IMAGES = LazyPattern(r"image|vision|multi-?modal|modalit|mmproj", re.IGNORECASE)
_FORM = LazyPattern(r"\b(media|content|text|roles?)\b", re.IGNORECASE)


def refuses_images(error: ProviderError) -> bool:
    """Return whether a server may have failed a request with `error` because of its images."""
    said = error.said or str(error)
    if error.status == _TOO_LARGE:
        return True
    if error.kind is ErrorKind.BAD_REQUEST:
        return bool(_IMAGES.compiled.search(said) or _FORM.compiled.search(said))
    return error.status in _FAULTS and bool(_IMAGES.compiled.search(said))
