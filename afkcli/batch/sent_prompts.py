"""Prompts that are at a provider: what the engine keeps of them, so that any process can continue them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from afkcli.batch.provider_collect import Member, ReadyChunk, request_id
from afkcli.core.contract.engine import ClaimedPrompt, Engine, Outcome, PromptState, SettledPrompt
from afkcli.core.contract.structs import FrozenStruct, Struct, field

PAGE: Final = 1000
"""How many prompts are read or reserved at once."""


class Place(FrozenStruct):
    """A prompt of a chunk that was sent: its id, and what its answer is read with."""

    prompt: str
    model: str
    has_schema: bool


class OpenChunk(Struct):
    """A chunk that is at its provider. `places` has its prompts by the ids of their requests."""

    key: str
    places: dict[str, Place] = field(default_factory=dict)
    due: float = 0.0
    interval: float = 0.0
    missing: int = 0


def sent_outcome(ready: ReadyChunk, number: int, member: Member) -> Outcome:
    """Return the outcome that makes a prompt `sent`: with it another process can go on."""
    prompt = member.prompt
    result = {
        "chunk": ready.key,
        "number": number,
        "claim": prompt.claim,
        "attempt": prompt.attempt,
        "model": member.model,
        "schema": member.has_schema,
        "request": prompt.request,
    }
    return Outcome(id=prompt.id, claim=prompt.claim, state=PromptState.SENT, result=result)


def claimed_of(prompt: SettledPrompt) -> ClaimedPrompt:
    """Return a prompt that is `sent` as it was when it was claimed."""
    kept = prompt.result
    return ClaimedPrompt(id=prompt.id, claim=kept["claim"], attempt=kept["attempt"], request=kept["request"])


def places_of(prompts: Sequence[SettledPrompt]) -> dict[str, Place]:
    """Return the prompts of a chunk that was sent, by the ids of their requests."""
    return {
        request_id(str(prompt.result["chunk"]), int(prompt.result["number"])): Place(
            prompt.id, str(prompt.result["model"]), bool(prompt.result["schema"])
        )
        for prompt in prompts
    }


def places_in(ready: ReadyChunk) -> dict[str, Place]:
    """Return the prompts of a chunk that is about to be sent, by the ids of their requests."""
    return {
        request_id(ready.key, number): Place(member.prompt.id, member.model, member.has_schema)
        for number, member in enumerate(ready.members)
    }


async def sent_prompts(engine: Engine, batch: str) -> dict[str, list[SettledPrompt]]:
    """Return all prompts of a batch that are `sent`, by their chunks."""
    found: dict[str, list[SettledPrompt]] = {}
    after = -1
    while page := await engine.prompts(batch, after=after, limit=PAGE):
        ids = [info.id for info in page if info.state is PromptState.SENT]
        for prompt in await engine.outcomes(batch, ids) if ids else ():
            found.setdefault(str(prompt.result.get("chunk")), []).append(prompt)
        after = page[-1].index
    return found
