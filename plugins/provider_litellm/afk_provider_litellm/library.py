"""LiteLLM itself: imported when it is first needed, quietly and without a network."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import threading
from typing import Any

from afk_provider_litellm.exchange import Transport, is_in_call
from afk_provider_litellm.sdk import send_as_given
from afkcli.plugin import PluginError

# In its other mode the import reads the `.env` file of the working directory. Without the others it fetches the prices,
# and for Anthropic's models the beta headers, from GitHub; both come with the package.
_ENVIRONMENT = {
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
}
# What the first call would import while the event loop waits for it.
_FIRST_CALL_MODULES = (
    "anyio._backends._asyncio",
    "litellm.proxy._types",
    "openai.resources.chat.completions",
)

_ENCODING = "litellm.litellm_core_utils.default_encoding"

_lock = threading.Lock()
_loaded: Any = None


def load() -> Any:
    """Return the module `litellm`; the first call imports it, which takes seconds.

    Raises:
        PluginError: it is not a version that this plugin can work with.
    """
    global _loaded
    with _lock:
        if _loaded is None:
            os.environ.update(_ENVIRONMENT)
            litellm = importlib.import_module("litellm")
            _route_requests(litellm)
            _silence(litellm)
            send_as_given(is_in_call)
            importlib.import_module("litellm.main").encoding = _Encoding()  # type: ignore[attr-defined]
            for name in _FIRST_CALL_MODULES:
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)
            _loaded = litellm
    return _loaded


def loaded() -> Any:
    """Return the module `litellm` if `load` has imported it, else None; it does not wait for the import."""
    return _loaded


def forget_clients() -> None:
    """Drop the clients that LiteLLM keeps for later calls, with their keys and URLs; nothing happens before `load`."""
    if _loaded is not None:
        _loaded.in_memory_llm_clients_cache.flush_cache()


class _Encoding:
    """Stands for the table of tokens, which LiteLLM hands from function to function and nearly never uses.

    It takes 40 MB, so it is loaded when something asks for one of its attributes.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(_ENCODING).encoding, name)


def _route_requests(litellm: Any) -> None:
    """Let the HTTP clients that LiteLLM makes send through `Transport`."""
    handler = importlib.import_module("litellm.llms.custom_httpx.http_handler").AsyncHTTPHandler
    original = getattr(handler, "create_async_transport", None)
    if original is None:
        raise PluginError(
            "the installed litellm makes its connections in another way than this plugin knows; "
            "update it with: pip install -U afk-provider-litellm litellm"
        )

    def create_async_transport(*arguments: Any, **options: Any) -> Transport:
        return Transport(lambda: original(*arguments, **options))

    handler.create_async_transport = staticmethod(create_async_transport)
    litellm.module_level_aclient = handler(timeout=litellm.request_timeout)


def _silence(litellm: Any) -> None:
    """Turn off what prints, repeats, counts and downloads."""
    litellm.suppress_debug_info = True  # the banner that asks for feedback, on stdout
    litellm.telemetry = False
    litellm.num_retries = 0
    litellm.disable_token_counter = True  # nothing here needs the counts, and some of the tokenizers are downloaded
    litellm.disable_hf_tokenizer_download = True
    litellm.REPEATED_STREAMING_CHUNK_LIMIT = sys.maxsize  # equal deltas are not an error
    for name in list(logging.root.manager.loggerDict):
        if name.lower().startswith("litellm"):  # below warnings its own handler writes to stdout
            logger = logging.getLogger(name)
            logger.handlers = [logging.StreamHandler() if os.environ.get("LITELLM_LOG") else logging.NullHandler()]
