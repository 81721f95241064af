"""What this plugin has to know of OpenAI's models by name: what a model takes, and whether it reasons."""

from __future__ import annotations

import re

from afk_provider_openai.settings import Server

# These refuse `include: ["reasoning.encrypted_content"]` and reasoning items in their input; all later ones take both.
_NOT_REASONING = ("gpt-3.5", "gpt-4", "gpt-5-chat", "chatgpt-4o")

_SAMPLING = frozenset({"temperature", "top_p"})
_OPTIONS = {
    "chat": _SAMPLING | {"max_output_tokens", "stop", "seed", "reasoning_effort"},
    "responses": _SAMPLING | {"max_output_tokens", "reasoning_effort"},
}

# The o series and gpt-5 always reason, and refuse sampling. From gpt-5.1 on it is taken while the effort is `none`,
# which is the default of some of them, so that only the API knows: https://developers.openai.com/api/docs/guides/latest-model
_NEVER_SAMPLES = re.compile(r"o\d|gpt-5(?![.\d]|-chat)")
_NO_STOP = re.compile(r"o3|o4-mini")

# These were made before structured outputs and answer a schema with 400.
_WITHOUT_SCHEMA = ("gpt-3.5", "gpt-4-", "chatgpt-4o", "gpt-4o-2024-05-13", "o1-preview", "o1-mini")


def is_reasoning_model(model: str) -> bool:
    """Return whether an OpenAI model reasons; a name that is not known counts as a newer one, which do."""
    return not model.removeprefix("ft:").startswith(_NOT_REASONING)


def options_of(server: Server, model: str) -> frozenset[str]:
    """Return the names of the options that a model takes through the server's API; other servers' models take all."""
    options = _OPTIONS[server.api]
    if not server.has_openai_models:
        return options
    name = model.removeprefix("ft:")
    if not is_reasoning_model(name):
        options -= {"reasoning_effort"}
    if _NEVER_SAMPLES.match(name):
        options -= _SAMPLING
    return options - {"stop"} if _NO_STOP.match(name) else options


# Every later model sees images, and what sees images also reads PDF:
# https://developers.openai.com/api/docs/guides/images-vision and https://developers.openai.com/docs/guides/pdf-files
_TEXT_ONLY = ("gpt-3.5", "gpt-oss", "o1-mini", "o1-preview", "o3-mini")
_SEEING_GPT_4 = ("gpt-4-turbo", "gpt-4-vision")


def sees_images(model: str) -> bool:
    """Return whether an OpenAI model takes images and PDF; a name that is not known counts as a newer one, which do."""
    name = model.removeprefix("ft:")
    first_gpt_4 = name == "gpt-4" or (name.startswith("gpt-4-") and not name.startswith(_SEEING_GPT_4))
    return not first_gpt_4 and not name.startswith(_TEXT_ONLY)


def has_structured_outputs(model: str) -> bool:
    """Return whether an OpenAI model takes a JSON Schema; a name that is not known counts as a newer one, which do."""
    name = model.removeprefix("ft:")
    return name != "gpt-4" and not name.startswith(_WITHOUT_SCHEMA)


_MISTRAL = re.compile(
    r"(?:^|[/:._-])(?:open-)?(?:mistral|mixtral|ministral|codestral|devstral|magistral|pixtral)", re.IGNORECASE
)


def is_mistral_model(server: Server, model: str) -> bool:
    """Return whether a model is Mistral's, whose API and chat templates take ids of nine letters and digits alone."""
    return "mistral.ai" in server.name or _MISTRAL.search(model) is not None
