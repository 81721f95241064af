"""What this plugin has to know of Claude models by name: their limits, and which parameters they refuse.

The figures are those of https://platform.claude.com/docs/en/about-claude/models/overview. A name that is not known
counts as a newer model, except that nothing is said of what is no Claude model at all.
"""

from __future__ import annotations

import re

from afkcli.plugin import Capabilities, FrozenStruct

_OPTIONS = frozenset({"max_output_tokens", "stop"})
_SAMPLING = frozenset({"temperature", "top_p"})
_RANGES = {"temperature": (0.0, 1.0)}

_NEW_NAME = re.compile(r"claude-([a-z]+)-(\d{1,2})(?:-(\d{1,2}))?(?!\d)")  # claude-opus-4-6, claude-sonnet-5
_OLD_NAME = re.compile(r"claude-(\d{1,2})(?:-(\d{1,2}))?-([a-z]+)")  # claude-3-5-haiku-20241022


class Claude(FrozenStruct):
    """A Claude model: its family (`opus`, `sonnet`, ...) and its version, such as (4, 6)."""

    family: str
    version: tuple[int, int]

    @property
    def takes_sampling(self) -> bool:
        """Whether it takes `temperature` and `top_p`; from 4.7 on, models answer them with 400."""
        return self.version < (4, 7)

    @property
    def thinks_adaptively(self) -> bool:
        """Whether it takes `thinking: {"type": "adaptive"}`; earlier models take a budget of tokens instead."""
        return self.version >= (4, 6)

    @property
    def takes_effort(self) -> bool:
        return self.thinks_adaptively or (self.family == "opus" and self.version >= (4, 5))

    @property
    def takes_schema(self) -> bool:
        """Whether it takes `output_config.format`; earlier models are told a schema in words."""
        return self.version >= (4, 5)

    @property
    def compacts(self) -> bool:
        """Whether its server makes compactions: https://platform.claude.com/docs/en/build-with-claude/compaction"""
        return self.version >= (4, 6)

    @property
    def clears_tool_uses(self) -> bool:
        """Whether its server clears results of tools: from Claude 4 on."""
        return self.version >= (4, 0)

    @property
    def context_tokens(self) -> int:
        return 1_000_000 if self.version >= (4, 6) else 200_000

    @property
    def max_output_tokens(self) -> int:
        if self.version >= (4, 6):
            return 64_000 if self.family == "sonnet" and self.version < (5, 0) else 128_000
        if self.version < (3, 7):
            return 8_192 if self.version >= (3, 5) else 4_096
        return 32_000 if self.family == "opus" and self.version < (4, 5) else 64_000


def claude(model: str) -> Claude | None:
    """Return what the name says of a Claude model, also with a prefix as gateways have it; None for any other name."""
    name = model.rpartition("/")[2]
    found = _NEW_NAME.search(name)
    if found:
        return Claude(found[1], (int(found[2]), int(found[3] or 0)))
    found = _OLD_NAME.search(name)
    if found:
        return Claude(found[3], (int(found[1]), int(found[2] or 0)))
    return Claude("", (99, 0)) if name.startswith("claude-") else None


def capabilities(model: str) -> Capabilities:
    """Return what is known of a model: where its name is not a Claude model's, only which options the API has."""
    known = claude(model)
    if known is None:
        return Capabilities(
            options=_OPTIONS | _SAMPLING | {"reasoning_effort"},
            option_ranges=_RANGES,
            structured_output=False,  # llama.cpp takes the field and does not keep to it
        )
    options = _OPTIONS
    if known.takes_sampling:
        options |= _SAMPLING
    if known.takes_effort:
        options |= {"reasoning_effort"}
    return Capabilities(
        context_tokens=known.context_tokens,
        max_output_tokens=known.max_output_tokens,
        tools=True,
        images=known.version >= (3, 0),
        files=known.version >= (3, 5),  # https://platform.claude.com/docs/en/build-with-claude/pdf-support
        reasoning=known.version >= (3, 7),
        structured_output=known.takes_schema,
        options=options,
        option_ranges=_RANGES,
        native_context_from=1 if known.clears_tool_uses else None,
    )
