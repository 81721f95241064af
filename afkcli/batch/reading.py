"""Reads the prompts of a batch: each is checked, has an id that no other one has, and the digest of what it asks.

Since: 0.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from afkcli.batch.attachments import AttachmentReader
from afkcli.batch.fields import MAX_ID_CHARS, prompt_id
from afkcli.batch.named import NamedThings
from afkcli.batch.prompt import Defaults, Digests, Prompt, id_of, numbered_id
from afkcli.batch.requests import CUSTOM_ID, RequestMaker
from afkcli.batch.rows import Row, RowError
from afkcli.batch.sources import Source
from afkcli.batch.templates import Template
from afkcli.core.contract.errors import UsageError
from afkcli.wiring.setup import Setup


def read_prompts(
    source: Source,
    setup: Setup,
    defaults: Defaults,
    template: Template | None = None,
    *,
    needs_keys: bool = True,
    fixes_models: bool = False,
) -> Iterator[Prompt]:
    """Yield the prompts of a batch in their order, each when it is asked for.

    Memory does not grow with the prompts, but by about 100 bytes for the id of each.

    Args:
        source: where they are.
        setup: the config and the plugins, by which models and agents are checked.
        defaults: what the command line says for all of them.
        template: the prompt file that makes their messages.
        needs_keys: whether the providers of the models must have their keys, because they are to be asked.
        fixes_models: whether each prompt says its model, because workers with other configs ask it. The model that the
            config names is not in its digest, so the same prompt is not a changed one when the config changes.

    Raises:
        UsageError: a prompt cannot be used; the message has its file and line. Nothing may be asked before the last
            prompt has been read.
    """
    named = NamedThings(setup, source.folder, defaults, needs_keys=needs_keys)
    maker = RequestMaker(named, AttachmentReader(source.folder), template)
    digests, ids = Digests(defaults), Ids()
    count = 0
    for index, row in enumerate(source.rows()):
        count = index + 1
        try:
            request = maker.request(row)
            id_ = ids.of(row, request.pop("id", None))
        except RowError as error:
            raise UsageError(f"{row.where}: {error}") from None
        digest = digests.of(request)
        if fixes_models:
            request |= named.fixed_model(request)
        yield Prompt(id=id_, index=index, digest=digest, request=request, where=row.where)
    if not count:
        raise UsageError(f"{source.name} has no prompts")


class Ids:
    """Gives each prompt its id, and refuses one that is taken.

    A prompt without an id gets one from what its line says, so that it keeps it wherever the line moves and whatever is
    added around it; the second line with the same content gets a `.2` after it, the third `.3`.
    """

    def __init__(self) -> None:
        self._places: dict[int, str | int] = {}
        self._counts: dict[int, int] = {}

    def of(self, row: Row, given: object) -> str:
        """Return the id of a row; `RowError` if another one has it.

        Args:
            row: the row.
            given: the id that the row says; None if it says none.
        """
        if given is not None:
            id_ = prompt_id(given)
        elif row.id is not None:
            id_ = row.id if len(row.id) <= MAX_ID_CHARS else id_of(row.id)
        else:
            id_ = self._of_content(row)
        self._take(id_, row)
        return id_

    def _of_content(self, row: Row) -> str:
        content = {name: value for name, value in row.fields.items() if name not in ("id", CUSTOM_ID)}
        id_ = id_of(content)
        key = int(id_, 16)
        self._counts[key] = count = self._counts.get(key, 0) + 1
        return numbered_id(id_, count)

    def _take(self, id_: str, row: Row) -> None:
        key = int.from_bytes(hashlib.blake2b(id_.encode(), digest_size=12).digest(), "big")
        before = self._places.get(key)
        if before is not None:
            place = f"line {before}" if isinstance(before, int) else before
            raise RowError(f"the id {id_!r} is there twice; {place} has it too")
        self._places[key] = _line_of(row)


def _line_of(row: Row) -> int | str:
    """Return the number of a row's line, which is small to keep; its place where it has none."""
    _, _, number = row.where.rpartition(", line ")
    return int(number) if number.isdecimal() else row.where
