"""What may be attached, what a model is sent of it, and what becomes of contents that are lost."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afkcli.core.contract.errors import ErrorKind, ProviderError, StoreError, UsageError
from afkcli.core.contract.events import Event
from afkcli.core.contract.media_types import media_type_of
from afkcli.core.contract.messages import FilePart, ImagePart, ModelRequest, TextPart
from afkcli.core.contract.protocols import Capabilities
from afkcli.core.contract.result import RunState
from afkcli.core.run.config import RunnerConfig
from afkcli.core.thread import attachments
from afkcli.core.thread.attachments import Attachment, ask, framed
from afkcli.core.thread.memory_store import MemoryStore
from tests.core.scripted import Scripted, agent, answer, collect, runner_of

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
PICTURE = Attachment(data=PNG, name="photo.png")
REPORT = Attachment(data=b"%PDF-1.7\n\xe2\xe3\xcf\xd3", name="report.pdf")
NOTES = Attachment(data=b"Beans need sun.\n", name="notes.txt")
NO_IMAGES = Capabilities(images=False, files=False)


class Able(Scripted):
    """A scripted model that says what it takes."""

    def __init__(self, *scripts: Any, able: Capabilities | None = None, **fields: Any) -> None:
        super().__init__(*scripts, **fields)
        self.able = able or Capabilities()

    def capabilities(self, model: str) -> Capabilities:
        return self.able


class TestWhatItIs:
    @pytest.mark.parametrize(
        ("data", "media_type"),
        [
            (PNG, "image/png"),
            (b"\xff\xd8\xff\xe0\x00\x10JFIF", "image/jpeg"),
            (b"GIF89a\x01\x00", "image/gif"),
            (b"GIF87a\x01\x00", "image/gif"),
            (b"RIFF\x24\x00\x00\x00WEBPVP8 ", "image/webp"),
            (b"%PDF-1.4\n", "application/pdf"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "text/plain"),
            ("日本\n".encode(), "text/plain"),
            (b"\xef\xbb\xbfwith a mark", "text/plain"),
        ],
    )
    def test_the_content_tells_and_not_the_name(self, data: bytes, media_type: str) -> None:
        assert media_type_of(data) == media_type
        assert Attachment(data=data, name="song.mp3").media_type == media_type

    @pytest.mark.parametrize(
        "data",
        [
            b"RIFF\x24\x00\x00\x00WAVEfmt ",
            b"\x00\x01",
            b"text with a \x00",
            "Grüße".encode("latin-1"),
            "text".encode("utf-16"),
            b"\x7fELF\x02\x00",
            b"BM\x00\xff",
        ],
    )
    def test_what_no_model_is_sent_is_refused(self, data: bytes) -> None:
        with pytest.raises(UsageError, match=r"thing\.png cannot be attached: unsupported type; supported"):
            Attachment(data=data, name="thing.png")

    @given(st.binary(min_size=1, max_size=64))
    def test_no_bytes_are_taken_for_more_than_they_are(self, data: bytes) -> None:
        kind = media_type_of(data)
        if kind == "text/plain":
            assert data.decode().encode() == data

    def test_nothing_is_refused(self) -> None:
        with pytest.raises(UsageError, match=r"a\.txt cannot be attached: it is empty"):
            Attachment(data=b"", name="a.txt")

    def test_what_is_too_large_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(attachments, "MAX_BYTES", 100)
        monkeypatch.setattr(attachments, "MAX_TEXT_BYTES", 50)
        assert Attachment(data=PNG.ljust(100), name="a").media_type == "image/png"
        with pytest.raises(UsageError, match="it is larger than"):
            Attachment(data=PNG.ljust(101), name="a")
        assert Attachment(data=b"x" * 50, name="a").media_type == "text/plain"
        with pytest.raises(UsageError, match="it is text of"):
            Attachment(data=b"x" * 51, name="a")
        with pytest.raises(UsageError, match=r"the 2 attachments are .* together"):
            ask("q", [Attachment(data=PNG.ljust(60), name="a"), Attachment(data=PNG.ljust(41), name="b")])

    def test_a_media_type_that_is_not_that_of_the_content_is_refused(self) -> None:
        assert Attachment(data=PNG, name="a", media_type="image/png").media_type == "image/png"
        with pytest.raises(UsageError, match="a cannot be attached as image/jpeg: its content is image/png"):
            Attachment(data=PNG, name="a", media_type="image/jpeg")

    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            ("a\nb\x1b[31m.png", "a?b?[31m.png"),
            ("", "attachment"),
            ("  ", "attachment"),
            ("ü\udcff.png", "ü\ufffd.png"),
            ("x" * 150 + "y" * 150, "x" * 100 + "…" + "y" * 99),
        ],
    )
    def test_a_name_is_one_line_of_text(self, name: str, shown: str) -> None:
        assert Attachment(data=PNG, name=name).name == shown


class TestFrames:
    def test_a_text_is_fenced_under_its_name(self) -> None:
        assert framed(NOTES.part, NOTES.data).text == "Attached file: notes.txt\n```\nBeans need sun.\n```\n\n"

    @given(st.text(alphabet="`a\n", max_size=40))
    def test_no_text_ends_its_fence(self, text: str) -> None:
        lines = framed(NOTES.part, text.encode()).text.splitlines()
        fence = lines[1]
        assert set(fence) == {"`"}
        assert len(fence) >= 3
        assert [place for place, line in enumerate(lines) if fence in line] == [1, len(lines) - 2]


def run(
    provider: Scripted, *turns: tuple[str, Sequence[Attachment]], store: MemoryStore | None = None, **fields: Any
) -> list[list[Event]]:
    """Run turns on the thread `t`, each by a runner of its own, and return their events."""
    kept = store or MemoryStore()

    async def one(message: str, attached: Sequence[Attachment]) -> list[Event]:
        async with runner_of(provider, store=kept) as runner:
            handle = await runner.run_stream(agent(**fields), user_message=message, thread_id="t", attachments=attached)
            return await collect(handle)

    return [asyncio.run(one(*turn)) for turn in turns]


def sent(request: ModelRequest, number: int = 0) -> list[str]:
    """Return the parts of a message: text as it is, of anything else type, name and content."""
    return [
        part.text
        if isinstance(part, TextPart)
        else f"{part.type} {part.name} {request.content(part.sha256)!r}"
        if isinstance(part, (ImagePart, FilePart))
        else part.type
        for part in request.messages[number].parts
    ]


def warnings(events: Sequence[Event]) -> list[tuple[str, str]]:
    return [(event.code, event.message) for event in events if event.type == "warning"]


class TestWhatIsSent:
    def test_what_is_attached_comes_first_and_a_text_is_text(self) -> None:
        provider = Able(answer("a"))
        run(provider, ("what?", [PICTURE, NOTES, REPORT]))
        assert sent(provider.requests[0]) == [
            f"image photo.png {PICTURE.data!r}",
            "Attached file: notes.txt\n```\nBeans need sun.\n```\n\n",
            f"file report.pdf {REPORT.data!r}",
            "what?",
        ]

    def test_the_next_turn_sends_the_same_again(self) -> None:
        provider = Able(answer("a"), answer("b"))
        run(provider, ("what?", [PICTURE, NOTES]), ("and?", []))
        first, second = provider.requests
        assert second.messages[0] == first.messages[0]
        assert sent(second) == sent(first)

    def test_the_start_of_the_run_tells_of_it_and_the_message_stays_text(self) -> None:
        [events] = run(Able(answer("a")), ("what?", [PICTURE]))
        started = events[0]
        assert started.type == "run_started"
        assert started.message == "what?"
        [told] = started.attachments
        digest = hashlib.sha256(PNG).hexdigest()
        assert (told.name, told.media_type, told.size, told.sha256) == ("photo.png", "image/png", len(PNG), digest)

    def test_the_title_of_the_thread_is_the_message(self) -> None:
        store = MemoryStore()
        run(Able(answer("a")), ("what?", [NOTES]), store=store)
        found = store.find("t")
        assert found is not None
        assert found.title == "what?"

    def test_a_model_that_cannot_take_it_is_not_asked(self) -> None:
        store, provider = MemoryStore(), Able(able=NO_IMAGES)
        with pytest.raises(UsageError, match=r"photo\.png .* image/png, and fake/small takes text only"):
            run(provider, ("what?", [PICTURE]), store=store)
        assert provider.requests == []
        assert store.find("t") is None

    def test_a_model_that_reads_no_pdf_says_what_it_takes(self) -> None:
        with pytest.raises(UsageError, match=r"report\.pdf .* takes text and images only"):
            run(Able(able=Capabilities(files=False)), ("what?", [REPORT]))

    def test_every_model_is_sent_a_text(self) -> None:
        provider = Able(answer("a"), able=NO_IMAGES)
        run(provider, ("what?", [NOTES]))
        assert sent(provider.requests[0])[0].startswith("Attached file: notes.txt")

    def test_a_later_model_that_cannot_take_it_gets_a_note(self) -> None:
        store, seeing, blind = MemoryStore(), Able(answer("a")), Able(answer("b"), answer("c"), able=NO_IMAGES)
        run(seeing, ("what?", [PICTURE, REPORT, NOTES]), store=store)
        events, again = run(blind, ("and?", []), ("and then?", []), store=store)
        assert sent(blind.requests[0]) == [
            "[image photo.png was attached here; this model cannot see it]\n\n",
            "[file report.pdf was attached here; this model cannot read it]\n\n",
            "Attached file: notes.txt\n```\nBeans need sun.\n```\n\n",
            "what?",
        ]
        assert warnings(events) == warnings(again)
        assert warnings(events)[0] == (
            "attachment_left_out",
            "photo.png, attached to this thread, is left out: fake/small cannot see it",
        )
        assert len(warnings(events)) == 2
        assert events[-1].type == "completed"
        assert events[-1].result.state is RunState.COMPLETED

    def test_a_fallback_model_that_cannot_take_it_gets_a_note(self) -> None:
        first = Able([ProviderError("down", kind=ErrorKind.AUTH)])
        second = Able(answer("b"), name="other", able=NO_IMAGES)

        async def main() -> list[Event]:
            async with runner_of(first, second, config=RunnerConfig()) as runner:
                chosen = agent(fail_safe=replace(agent().fail_safe, fallback_models=("other/small",)))
                return await collect(
                    await runner.run_stream(chosen, user_message="what?", thread_id="t", attachments=[PICTURE])
                )

        events = asyncio.run(main())
        assert sent(second.requests[0])[0].startswith("[image photo.png was attached here;")
        assert [code for code, _ in warnings(events)] == ["fallback", "attachment_left_out"]


class LossyStore(MemoryStore):
    """A store that gives `outcome` for every content."""

    def __init__(self, outcome: bytes | Exception | None) -> None:
        super().__init__()
        self.outcome = outcome

    def content(self, key: str, sha256: str) -> bytes | None:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class TestWhatIsLost:
    @pytest.mark.parametrize(
        ("outcome", "why"),
        [
            (None, "its content is missing from the thread"),
            (PNG + b"?", "its content is damaged: its checksum does not match"),
            (b"", "its content is damaged: its checksum does not match"),
            (StoreError("the disk is gone"), "its content cannot be read (the disk is gone)"),
            (RuntimeError("odd"), "its content cannot be read (odd)"),
        ],
    )
    def test_it_is_named_and_not_sent_and_the_run_continues(self, outcome: bytes | Exception | None, why: str) -> None:
        provider = Able(answer("a"), answer("b"))
        first, second = run(provider, ("what?", [PICTURE]), ("and?", []), store=LossyStore(outcome))
        assert warnings(first) == []  # its own message is in memory
        assert warnings(second) == [("attachment_lost", f"photo.png, attached to this thread, is left out: {why}")]
        assert sent(provider.requests[1]) == ["[image photo.png was attached here; its content is lost]\n\n", "what?"]

    def test_a_fork_copies_the_attachments(self) -> None:
        store, provider = MemoryStore(), Able(answer("a"), answer("b"))
        run(provider, ("what?", [PICTURE]), store=store)
        source = store.find("t")
        assert source is not None

        async def main() -> str:
            from afkcli.core.run.config import unknown_owner

            assert store.acquire("t", unknown_owner("another run")) is not None
            async with runner_of(provider, store=store, config=RunnerConfig(busy="fork")) as runner:
                return (await runner.run(agent(), user_message="and?", thread_id="t")).thread_id

        name = asyncio.run(main())
        fork = store.find(name)
        assert fork is not None
        assert fork.key != source.key
        assert store.content(fork.key, PICTURE.part.sha256) == PNG
        assert sent(provider.requests[1])[0] == f"image photo.png {PNG!r}"

    def test_the_contents_of_a_turn_that_cannot_be_saved_are_rescued_with_it(self) -> None:
        from afkcli.core.run.config import Wiring

        class Full(MemoryStore):
            def append(self, *arguments: Any) -> None:
                raise StoreError("the disk is full")

        rescued: list[dict[str, bytes]] = []

        async def main() -> None:
            wiring = Wiring(rescue=lambda thread_id, turn, contents: rescued.append(dict(contents)))
            async with runner_of(Able(answer("a")), store=Full(), wiring=wiring) as runner:
                await runner.run(agent(), user_message="what?", thread_id="t", attachments=[PICTURE])

        asyncio.run(main())
        assert rescued == [{PICTURE.part.sha256: PNG}] * 2  # with the question, and with the answer
