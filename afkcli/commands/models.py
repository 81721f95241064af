"""`afk models`: what each configured provider offers, with window, price and alias."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from afkcli.commands.base import Command, option
from afkcli.commands.completion import complete_provider
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.core.contract.errors import EXIT_FAILED
from afkcli.core.contract.protocols import Capabilities, ModelInfo, Price
from afkcli.core.contract.structs import FrozenStruct
from afkcli.core.contract.waits import waiting_for
from afkcli.screen.display import shown_activity
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout
from afkcli.screen.tables import write_table
from afkcli.wiring.assembly import load_setup
from afkcli.wiring.model_lists import Listed, checked_providers, configured_providers, list_models
from afkcli.wiring.prices import PriceList, listed_window
from afkcli.wiring.setup import Setup

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@click.command(
    "models",
    cls=Command,
    examples=(
        ("afk models", "what your providers offer"),
        ("afk models -q sonnet", "only the models with this word"),
        ("afk models --provider openai --refresh", "ask openai again"),
    ),
)
@option("-q", "--query", "words", multiple=True, metavar="WORDS", help="Show only models with all these words.")
@option(
    "--provider",
    "providers",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_provider,
    help="Ask this provider, by default each that is configured; may be given more than once.",
)
@option("--refresh", is_flag=True, help="Ask the providers although a list of the last day is kept.")
@json_option
def command(words: tuple[str, ...], providers: tuple[str, ...], refresh: bool, as_json: bool) -> None:
    """List the models that the configured providers offer, with window, price for a million tokens, and aliases.

    A list is kept for a day; a server on this machine is always asked. The exit code is 4 if no provider could be asked
    and no list of one is kept.
    """
    start = invocation()
    messages = Messages(start)
    setup = load_setup(start, project=True, notify=messages.say)
    names = checked_providers(setup, providers) if providers else configured_providers(setup)
    with shown_activity(start, messages, "asking for models"), waiting_for("the providers to list their models"):
        answers = asyncio.run(list_models(setup, names, refresh=refresh))
    for answer in answers:
        if answer.problem is not None:
            messages.warn(f"{answer.provider}: {answer.problem}{_instead(answer)}")
    rows = [row for row in (*_rows(setup, answers), *_other_aliases(setup, answers)) if row.has_all(words)]
    _write(Stdout(start), setup, rows, as_json=as_json)
    if not rows and any(answer.found is not None for answer in answers):
        messages.say(f"no model has the words {' '.join(words)!r}" if words else "the providers list no model")
    if answers and all(answer.found is None for answer in answers):
        raise click.exceptions.Exit(EXIT_FAILED)


class _Row(FrozenStruct, kw_only=True):
    """A model in the list; `at` is when its provider listed it, None for an alias of a model that no provider lists."""

    provider: str
    info: ModelInfo
    capabilities: Capabilities
    aliases: tuple[str, ...]
    at: float | None
    is_kept: bool = False
    is_default: bool = False

    @property
    def full_name(self) -> str:
        return f"{self.provider}/{self.info.id}"

    def has_all(self, words: Sequence[str]) -> bool:
        text = " ".join((self.full_name, self.info.description, *self.aliases)).lower()
        return all(part in text for word in words for part in word.lower().split())


def _instead(answer: Listed) -> str:
    return "" if answer.found is None else f"; this is its list of {_ago(answer.found.age)}"


def _rows(setup: Setup, answers: Sequence[Listed]) -> Iterator[_Row]:
    aliases = _aliases(setup)
    for answer in answers:
        for info in answer.found.models if answer.found is not None else ():
            yield _Row(
                provider=answer.provider,
                info=info,
                capabilities=answer.capabilities.get(info.id, Capabilities()),
                aliases=tuple(alias for alias, name in aliases.items() if name == f"{answer.provider}/{info.id}"),
                at=answer.found.at if answer.found is not None else None,
                is_kept=answer.is_kept,
                is_default=info.id == answer.default_model,
            )


def _other_aliases(setup: Setup, answers: Sequence[Listed]) -> Iterator[_Row]:
    """Yield the aliases of models that no list has: of another provider, or of one that could not be asked."""
    listed = {f"{answer.provider}/{info.id}" for answer in answers if answer.found for info in answer.found.models}
    for alias, name in _aliases(setup).items():
        provider, _, model = name.partition("/")
        if name not in listed and model:
            yield _Row(
                provider=provider, info=ModelInfo(id=model), capabilities=Capabilities(), aliases=(alias,), at=None
            )


def _aliases(setup: Setup) -> dict[str, str]:
    tables = [file.table.get("models", {}) for file in reversed(setup.config.files)]
    return {alias: str(name) for table in tables for alias, name in table.items()}


def _write(stdout: Stdout, setup: Setup, rows: Sequence[_Row], *, as_json: bool) -> None:
    prices, windows = PriceList(setup.config.prices()), setup.config.windows()
    if as_json:
        stdout.objects(_object(row, prices, windows) for row in rows)
        return
    if not rows:
        return
    cells = [
        (
            row.full_name,
            _in_thousands(_window(row, windows)),
            _price_words(prices(row.full_name, row.capabilities)),
            ", ".join((*row.aliases, *(("default",) if row.is_default else ()))),
            "not listed" if row.at is None else _ago(_age(row.at)) if row.is_kept else "now",
            row.info.description,
        )
        for row in rows
    ]
    write_table(stdout, ("MODEL", "WINDOW", "$ IN/OUT", "ALIAS", "LISTED", "WHAT"), cells, whole=1, spare=(5, 4, 3, 2))


def _object(row: _Row, prices: PriceList, windows: Mapping[str, int]) -> dict[str, Any]:
    price = prices(row.full_name, row.capabilities)
    return {
        "v": 1,
        "type": "model",
        "model": row.full_name,
        "provider": row.provider,
        "id": row.info.id,
        "description": row.info.description,
        "context_tokens": _window(row, windows),
        "price": None if price is None else {"input": price.input, "output": price.output},
        "aliases": list(row.aliases),
        "default": row.is_default,
        "listed_at": None if row.at is None else datetime.fromtimestamp(row.at, UTC).isoformat(timespec="seconds"),
        "kept": row.is_kept,
    }


def _window(row: _Row, windows: Mapping[str, int]) -> int | None:
    """Return the window as a run finds it, else as the list of the server says it."""
    known = windows.get(row.full_name) or row.capabilities.context_tokens
    return known or listed_window(row.full_name, row.capabilities) or row.info.context_tokens


def _price_words(price: Price | None) -> str:
    return "unknown" if price is None else f"{price.input:g}/{price.output:g}"


def _in_thousands(tokens: int | None) -> str:
    if tokens is None:
        return "unknown"
    return (
        f"{tokens / 1_000_000:.3g}M"
        if tokens >= 1_000_000
        else f"{tokens / 1000:.3g}k"
        if tokens >= 1000
        else str(tokens)
    )


def _age(at: float) -> float:
    return max(0.0, datetime.now(UTC).timestamp() - at)


def _ago(seconds: float) -> str:
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name} ago"
    return f"{seconds:.0f} s ago"
