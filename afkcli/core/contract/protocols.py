"""What the core asks of a provider, a store and a sink, and what the command of a plugin is given.

These are the shapes that a plugin returns from its hook; `afkcli.hookspecs` is the page to start from.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from afkcli.core.contract.jsonform import Json
from afkcli.core.contract.result import Usage
from afkcli.core.contract.structs import FrozenStruct, field

if TYPE_CHECKING:  # a list of threads needs none of these
    from os import PathLike

    from afkcli.core.contract.events import Event
    from afkcli.core.contract.messages import ModelEvent, ModelRequest, ModelResponse, ProviderData

LEASE_SECONDS = 10.0
RENEW_SECONDS = 3.0
JOURNAL_SECONDS = 0.1  # design: "at least every 250 ms"; the rest is margin, for the write and on a busy machine


class Price(FrozenStruct, kw_only=True):
    """US dollars per million tokens. `cache_read` and `cache_write` are None where they cost the same as `input`.

    `cache_write_1h` is what a cache that lasts an hour costs; None where that is twice `input`, as Anthropic has it:
    https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing (since 0.2).
    `tiers`, by rising `above`, are what calls with a long input cost instead.
    """

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    tiers: tuple[PriceTier, ...] = ()
    cache_write_1h: float | None = None

    @property
    def is_free(self) -> bool:
        rates = (self.input, self.output, self.cache_read, self.cache_write, self.cache_write_1h)
        return not any((*rates, *self.tiers))

    def of(self, input_tokens: int) -> Price:
        """Return the price of a call with so many input tokens: all of it goes by the highest tier that they pass."""
        passed = [tier.price for tier in self.tiers if input_tokens > tier.above]
        return passed[-1] if passed else self


class PriceTier(FrozenStruct, kw_only=True):
    """The price of a call whose input has more than `above` tokens."""

    above: int
    price: Price


class Capabilities(FrozenStruct, kw_only=True):
    """What a model can do, as far as its provider knows; None is unknown.

    `structured_output` is whether the provider holds an answer to `ModelRequest.output_schema` by itself. Unless it is
    True the model is also told the schema in words; where it is False the request has only the words. `options` are
    the names of all options that the model takes: a run with another one is refused. `max_output_tokens` is the most
    that the model can answer with: a run whose option of that name is greater is refused. Where `tools` is False the
    tools of the agent are left out of its requests, with a warning. `option_ranges` are the least and
    the greatest value of a numeric one, where they differ from what all providers take
    (`afkcli.core.contract.options`). Where the provider does not know the `price`, `sold_by` says where a price list
    may look: the URL of the API that serves the model, or its seller's name in the list of genai-prices (`openai`);
    None if this is unknown, as for a server of the user's own. `native_context_from` is the least size in tokens from
    which the server can be asked to shorten a conversation by itself (`ModelRequest.native_context_from`, the context
    policy `native`); None if it cannot be asked (since 0.2).
    """

    context_tokens: int | None = None
    max_output_tokens: int | None = None
    tools: bool | None = None
    images: bool | None = None
    files: bool | None = None
    reasoning: bool | None = None
    structured_output: bool | None = None
    options: frozenset[str] | None = None
    option_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    price: Price | None = None
    sold_by: str | None = None
    native_context_from: int | None = None


class ModelInfo(FrozenStruct, kw_only=True):
    """A model that a provider offers; `id` is the name without the provider.

    `context_tokens` is the window that the server says, in tokens (since 0.2).
    """

    id: str
    description: str = ""
    context_tokens: int | None = None


class Provider(Protocol):
    """A model provider. All but `capabilities` are asynchronous; nothing here may block the event loop."""

    @property
    def name(self) -> str:
        """The name in `provider/model`, as in the entry point `provider.<name>`."""
        ...

    @property
    def default_model(self) -> str | None:
        """The model used when only the provider is named, or None where one has to be named."""
        ...

    def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Make one model call and yield its events, `ModelResponse` last.

        It makes one attempt: retrying is the core's. Closing the iterator (`aclose`, cancellation) closes the request.

        Raises:
            ProviderError: with one of the kinds of `ErrorKind`, its message fit for a person and free of secrets.
        """
        ...

    def capabilities(self, model: str) -> Capabilities: ...

    async def list_models(self) -> Sequence[ModelInfo]: ...

    async def count_tokens(self, request: ModelRequest) -> int:
        """Return the tokens of the request's input, an estimate where the provider has no count of its own."""
        ...

    async def prepare(self) -> None:
        """Do what may be done before a request is known: import, open the connection pool, load weights."""
        ...

    async def aclose(self) -> None:
        """Close the connections; what takes longer than 5 s is left behind, with a line on stderr (since 0.2)."""
        ...


class CompactingProvider(Provider, Protocol):
    """A provider whose servers make compactions of conversations. Each of the methods is optional. Since: 0.2.

    A compaction comes with an answer, if `ModelRequest.native_context_from` asks for it, as a `ReasoningPart` with
    `compacts`, or from `compact`.
    """

    def takes_compaction(self, model: str, data: ProviderData) -> bool:
        """Return whether a compaction can be sent back to `model`: whether it came from its API and server.

        Without this method, one of the same provider and model can be.
        """
        ...

    async def compact(self, request: ModelRequest) -> ModelResponse:
        """Have the server make a compaction of the messages of a request, and return it as a part of a message.

        Raises:
            ProviderError: the call failed; `not_found` if the server has no such endpoint.
        """
        ...


class SentRequest(FrozenStruct, kw_only=True):
    """A request as a provider sends it: `body` is the text of its JSON to the letter.

    `method`, `url` and `headers` are None for a model that runs in this process. Since: 0.2.
    """

    body: str
    method: str | None = None
    url: str | None = None
    headers: Mapping[str, str] | None = None


class PreviewingProvider(Provider, Protocol):
    """A provider that can say what it would send. The method is optional: without it `afk run --dry-run` shows the
    request as afk gives it to the provider. Since: 0.2."""

    async def preview(self, request: ModelRequest) -> SentRequest:
        """Return what `stream` would send first for `request`; nothing is sent.

        Raises:
            ProviderError: `stream` would not send it.
        """
        ...


class RecordKind(StrEnum):
    """What a record of a thread is.

    A turn is opened by its `question`, grows by `journal` records and ends with its `seal`, which holds the whole turn
    again; once a turn is sealed its question and journal are dropped. `meta` records a change of the thread itself.
    """

    QUESTION = "question"
    JOURNAL = "journal"
    SEAL = "seal"
    META = "meta"


KEPT_KINDS = frozenset({RecordKind.SEAL, RecordKind.META})
DURABLE_KINDS = frozenset({RecordKind.QUESTION, RecordKind.SEAL, RecordKind.META})


class Record(FrozenStruct, kw_only=True):
    """One record of a thread's append-only log.

    `index` grows by one from record to record. `body` is JSON text that the store keeps to the letter. `hash` is the
    SHA-256 (hex) of all other fields and the thread's key, so it is also the checksum. `prev` is the hash of the record
    before it; for kept records (`seal`, `meta`) that of the kept record before it, so that the chain of what is kept
    holds when the journal is dropped.
    """

    index: int
    kind: RecordKind
    turn: int
    prev: str
    body: str
    hash: str


class LargeRecord(Record, kw_only=True):
    """A record that is there and too large to be read: `body` is "", `size` the bytes that it has.

    A store may return it in place of the record, so that one of a gigabyte does not take the memory of the process. It
    is named and left out, and its neighbours are used. Since: 0.2.
    """

    size: int


class OpenTurn(FrozenStruct, kw_only=True):
    """A turn that is not sealed yet."""

    turn: int
    run_id: str
    index: int
    started: str


class Fork(FrozenStruct, kw_only=True):
    """Where a thread was forked: the parent's key and name then, and its last turn that was taken over."""

    key: str
    name: str
    turn: int


THREAD_SCHEMA = 2
"""The greatest version of what a thread's records mean that this afk reads; it refuses threads of a greater one.

A thread is of version 1 until a record is added that afk 0.1 does not know: an undo, a redo or a replacement is of
version 2. So an older afk goes on reading all threads that have no such record.
"""
FIRST_THREAD_SCHEMA = 1


class ThreadInfo(FrozenStruct, kw_only=True):
    """A thread's identity and metadata; the store keeps it beside the records, in the same transaction.

    `head` is the hash of the last record, `kept_head` that of the last kept record, both "" at first; `next_index` the
    index of the next record. `turns` counts the turns that were opened. `created` and `used` are RFC 3339.
    """

    key: str
    name: str
    created: str
    used: str
    head: str = ""
    kept_head: str = ""
    next_index: int = 0
    turns: int = 0
    open_turn: OpenTurn | None = None
    last_state: str | None = None
    last_run_id: str | None = None
    folder: str | None = None
    title: str | None = None
    agent: str | None = None
    model: str | None = None
    parent: Fork | None = None
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = 0.0
    tags: tuple[str, ...] = ()
    schema: int = FIRST_THREAD_SCHEMA


class Owner(FrozenStruct, kw_only=True):
    """Who holds a lease, precisely enough to prove a process dead on its own host."""

    host: str
    boot_id: str
    pid_namespace: str
    pid: int
    start_time: str
    run_id: str


class Lease(FrozenStruct, kw_only=True):
    """The right to write to one thread. `token` is random and different for every acquisition."""

    token: str
    thread: ThreadInfo
    expires: float


NO_CONTENTS: Mapping[str, bytes] = MappingProxyType({})


class Store(Protocol):
    """Where threads are kept. Synchronous; the core calls it on one thread of its own.

    Every method may raise `StoreError`, its message fit for a person.
    """

    def acquire(self, name: str, owner: Owner, *, create: bool = True, key: str | None = None) -> Lease | None:
        """Take the lease of the thread `name` for `LEASE_SECONDS` by the store's clock, in one transaction.

        The thread is created where there is none and `create` is true; it is dropped again with its lease if nothing
        was appended. Its key is `key`, which nothing but an import gives, else a new UUIDv7. A lease that has expired,
        or whose owner is proven dead, is replaced.

        Returns:
            The lease with the thread's metadata as it is now, or None if another owner holds it.

        Raises:
            UnknownNameError: there is no such thread and `create` is false.
            StoreError: a thread would be created, and another one has the key `key`.
        """
        ...

    def holder(self, name: str) -> Owner | None:
        """Return who holds an unexpired lease of the thread `name`, or None."""
        ...

    def renew(self, lease: Lease) -> Lease:
        """Make the lease last `LEASE_SECONDS` from now; also if it has expired, unless another owner took it.

        Raises:
            LeaseLostError: another owner took it.
        """
        ...

    def release(self, lease: Lease) -> None:
        """Give the lease back; nothing happens if it is no longer held."""
        ...

    def append(
        self,
        thread: ThreadInfo,
        records: Sequence[Record],
        expected_head: str,
        lease: Lease,
        contents: Mapping[str, bytes] = NO_CONTENTS,
    ) -> None:
        """Append `records`, keep `contents` and save `thread` as the metadata, all or nothing.

        When it returns, records of `DURABLE_KINDS` survive power loss, `journal` records the death of the process. With
        a `seal`, the question and journal of its turn are dropped in the same transaction. A change of `thread.name`
        renames the thread. The cost does not grow with the thread.

        `contents` are those of the attachments that the records name, by SHA-256 (hex), and of the images that tools
        returned. They are as durable as the records that they come with. Those that come with a journal record come
        again with the seal of their turn, and are durable then; a store may compare them instead of writing them
        again. They belong to the thread until it is deleted. A content that the thread already has is replaced.

        Raises:
            LeaseLostError: `lease` is not the thread's current one; nothing was written.
            HeadMismatchError: the thread's head is not `expected_head`; nothing was written.
            NameTakenError: another thread has the new name; nothing was written.
        """
        ...

    def load(self, key: str, *, after: int = -1, limit: int | None = None, reverse: bool = False) -> Sequence[Record]:
        """Return the records of a thread with an index greater than `after`, in order of index.

        With `reverse` the highest come first (and `limit` takes them from the end). Records are returned as stored,
        also damaged ones: the reader checks the hashes.
        """
        ...

    def content(self, key: str, sha256: str) -> bytes | None:
        """Return a content that was appended to the thread `key`, or None if the thread has no content with that hash.

        It is returned as stored, also where it is damaged: the reader checks the hash.
        """
        ...

    def find(self, name: str) -> ThreadInfo | None:
        """Return the metadata of the thread `name`, or None."""
        ...

    def list(
        self, *, limit: int | None = None, folder: str | None = None, search: str | None = None
    ) -> Sequence[ThreadInfo]:
        """Return threads, the last used first; with `search` those whose text matches all of its words."""
        ...

    def delete(self, lease: Lease) -> None:
        """Delete the lease's thread, all its records and contents; `LeaseLostError` if the lease is not held."""
        ...

    def add(self, counter: str, amount: float, limit: float | None = None) -> float:
        """Add `amount` to a counter (0 at first) in one transaction and return the new value.

        Raises:
            CounterLimitError: the new value would be greater than `limit`; nothing was added.
        """
        ...

    def close(self) -> None:
        """Close the store; a run gives it 10 s, then it is left behind, with a line on stderr (since 0.2)."""
        ...


class Append(NamedTuple):
    """`Store.append` as an operation of `BatchStore.apply`; the fields are its arguments."""

    thread: ThreadInfo
    records: Sequence[Record]
    expected_head: str
    lease: Lease
    contents: Mapping[str, bytes] = NO_CONTENTS


class Renew(NamedTuple):
    """`Store.renew` as an operation of `BatchStore.apply`."""

    lease: Lease


class Add(NamedTuple):
    """`Store.add` as an operation of `BatchStore.apply`."""

    counter: str
    amount: float
    limit: float | None = None


class Acquire(NamedTuple):
    """`Store.acquire` as an operation of `BatchStore.apply`."""

    name: str
    owner: Owner
    create: bool = True
    key: str | None = None


class Release(NamedTuple):
    """`Store.release` as an operation of `BatchStore.apply`."""

    lease: Lease


Operation: TypeAlias = Acquire | Append | Renew | Release | Add
OperationResult: TypeAlias = Lease | float | Exception | None
"""What became of an operation: what the method of its name returns, or the exception that it raises."""


class BatchStore(Store, Protocol):
    """A store that takes several operations of one process in one transaction. The method is optional. Since: 0.2."""

    def apply(self, operations: Sequence[Operation]) -> Sequence[OperationResult]:
        """Carry out `operations` in their order, in one transaction, each checked on its own.

        Every operation is all or nothing, as the method of its name is: one whose lease is lost, whose expected head is
        not there or whose counter is at its limit changes nothing, and the others are carried out. An operation sees
        what those before it have done: two appends on one thread may follow one another, and the release of a lease
        follows the seal that was written with it. A release is carried out also if the append before it failed. When
        this returns, all that was written is as durable as each operation asks for.

        Returns:
            A result for each operation, in the same order; no results for no operations.

        Raises:
            StoreError: the transaction failed as a whole; nothing was written.
        """
        ...


class TurnSearch(FrozenStruct, kw_only=True):
    """What a search of turns looks for. Since: 0.2.

    `words` are folded (`afkcli.core.thread.turn_text.folded`), and each is looked for as it is, also inside other
    words. `thread` is the key of the one thread that is searched, if any. `since` and `until` are times in RFC 3339:
    turns count that began from the first and before the second. `every` is whether turns count that are left out of
    the conversation.
    """

    words: tuple[str, ...]
    thread: str | None = None
    since: str = ""
    until: str = "~"
    every: bool = False


class TurnMatch(FrozenStruct, kw_only=True):
    """A turn that a search found: `record` is the index of its seal. Since: 0.2.

    Where the name, the title or the tags of the thread were found, `record` is None. `left_out` is why the turn is not
    part of the conversation any more, if it is not.
    """

    thread: ThreadInfo
    record: int | None = None
    left_out: str | None = None


class SearchStore(Store, Protocol):
    """A store that finds turns by an index of its own. The method is optional. Since: 0.2.

    Without it, afk reads all threads, page by page.
    """

    def search_turns(self, search: TurnSearch, limit: int) -> Sequence[TurnMatch]:
        """Return up to `limit` turns and threads, the best first.

        First come those that have all words, then the best turn of each thread that has all words in several turns. A
        turn that several threads have, because one is a fork of the other, comes once. What was appended before the
        call is found. `afkcli.core.thread.turn_text` says what the text of a turn is.
        """
        ...


class Sink(Protocol):
    """Takes every event of every run, in order. Synchronous; the core calls it on a thread of the sink's own.

    A sink that raises is reported once and left out; it never delays a run.
    """

    @property
    def name(self) -> str:
        """The name by which the sink is reported, as in the entry point `sink.<name>`."""
        ...

    def emit(self, event: Event) -> None: ...

    def close(self) -> None:
        """Flush and close; called once, after the last event, and given at most 1 s if nothing is left to write."""
        ...


class BatchSink(Sink, Protocol):
    """A sink that takes several events at once, which is optional: else each is given to `emit`.

    Since: 0.2.
    """

    def emit_all(self, events: Sequence[Event]) -> None:
        """Take events in their order, at least one, which may be of several runs; as `emit`."""
        ...


class Leftovers(NamedTuple):
    """What belongs to no thread: how many contents of attachments, and their bytes. Since: 0.2."""

    contents: int
    size: int


class TidyStore(Store, Protocol):
    """A store that finds what belongs to no thread, as a fault may leave it. The method is optional. Since: 0.2."""

    def drop_leftovers(self, *, dry_run: bool) -> Leftovers:
        """Delete what belongs to no thread, unless `dry_run`, and return what it was."""
        ...


class Removal(NamedTuple):
    """What was done with a file of a log: from how many runs lines were taken out of it, or that it is in use."""

    file: PathLike[str]
    runs: int
    in_use: bool


class LogSink(Sink, Protocol):
    """A sink that keeps a log in files, with one JSON event a line. Each of the methods is optional. Since: 0.2."""

    def files(self) -> Sequence[PathLike[str]]:
        """Return the files of the log, the oldest first; `afk events tail` and `afk threads rm` read them."""
        ...

    def remove_threads(self, keys: Collection[str]) -> Iterator[Removal]:
        """Take the lines of the threads with `keys` out of the files that no process writes to.

        Yields:
            What was done with each file that has such lines.

        Raises:
            OSError: a file cannot be read or written.
        """
        ...


class CommandContext(Protocol):
    """What the command of a plugin is given of afk.

    Since: 0.2.
    """

    @property
    def settings(self) -> Any:
        """The settings of the plugin, from `[commands.<name>]` and the environment."""
        ...

    @property
    def config(self) -> Mapping[str, Json]:
        """The effective config by dotted key, as `afk config show` has it: secrets are masked."""
        ...

    def open_store(self) -> Store:
        """Open the store that `afk run` uses in this folder. Use it on one operating-system thread, and close it.

        Raises:
            StoreError: it cannot be opened.
        """
        ...
