"""Threads as lines of JSON: what is written comes back to the letter, and nothing else does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afkcli.core.contract.errors import ConflictError
from afkcli.core.contract.events import message_to_json
from afkcli.core.contract.messages import Role, text_message
from afkcli.core.contract.protocols import Lease, Owner, RecordKind
from afkcli.core.contract.result import RunState
from afkcli.core.run.config import unknown_owner
from afkcli.core.thread.attachments import Attachment, ask
from afkcli.core.thread.contents import stored_contents
from afkcli.core.thread.exchange import (
    ExportedThread,
    Incomplete,
    Item,
    Refused,
    RescuedTurn,
    content_line,
    end_line,
    named_contents,
    read_lines,
    rescued_line,
    thread_lines,
)
from afkcli.core.thread.history import load_history
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.core.thread.records import next_record
from afkcli.core.thread.restore import Restored, Restorer
from afkcli.core.thread.sending import sent_turns
from afkcli.core.thread.turns import SealedTurn
from afkcli.testing.store_steps import acquired, save, save_turn, with_journal, with_meta, with_question, with_seal

_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
_steps = st.lists(st.tuples(st.sampled_from(["turn", "rename", "title", "journal"]), _text), min_size=1, max_size=6)


def owner() -> Owner:
    return unknown_owner("import")


def stored(store: MemoryStore, name: str = "t-42", turns: int = 2) -> Lease:
    lease = acquired(store, name)
    for number in range(turns):
        lease = save_turn(store, lease, f"question {number}", f"answer {number}", number)
    store.release(lease)
    return lease


def exported(store: MemoryStore) -> list[bytes]:
    lines: list[str] = []
    for info in sorted(store.list(), key=lambda info: info.key):
        records = store.load(info.key)
        lines += thread_lines(info, records)
        contents = stored_contents(store, info.key, named_contents(records))
        lines += [content_line(sha256, data) for sha256, data in contents.items()]
    return [line.encode() for line in lines]


def end(threads: int) -> bytes:
    return end_line(threads).encode()


def items(lines: Iterable[bytes]) -> list[Item]:
    """Return the items of the file; `incomplete` says whether it was cut."""
    return [item for item in read_lines(lines) if not isinstance(item, Incomplete)]


def incomplete(lines: Iterable[bytes]) -> list[tuple[int, str]]:
    return [(item.line, item.what) for item in read_lines(lines) if isinstance(item, Incomplete)]


def restore(store: MemoryStore, lines: Iterable[bytes], *, rename: bool = False) -> list[Restored]:
    restorer = Restorer(store, owner, rename=rename)
    done = []
    for item in items(lines):
        assert not isinstance(item, (Refused, Incomplete)), item
        done.append(restorer.thread(item) if isinstance(item, ExportedThread) else restorer.rescued(item))
    return done


def changed(line: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    form = json.loads(line)
    change(form)
    return json.dumps(form).encode() + b"\n"


class TestRoundTrip:
    @settings(deadline=None)
    @given(threads=st.lists(_steps, max_size=4))
    def test_an_import_into_an_empty_store_exports_the_same_bytes(self, threads: list[list[tuple[str, str]]]) -> None:
        store = MemoryStore()
        for number, steps in enumerate(threads):
            lease = acquired(store, f"t{number}")
            for second, (step, text) in enumerate(steps):
                if step == "turn":
                    lease = save_turn(store, lease, text, text[::-1], second)
                elif step == "journal":
                    lease = save(store, lease, with_question(lease.thread, text))
                    lease = save(store, lease, with_journal(lease.thread, text))
                    break
                else:
                    lease = save(store, lease, with_meta(lease.thread, title=f"{step} {text}"))
            store.release(lease)
        lines = exported(store)
        other = MemoryStore()

        outcomes = {restored.outcome for restored in restore(other, lines)}

        assert outcomes <= {"imported"}
        assert exported(other) == lines
        assert {restored.outcome for restored in restore(other, lines)} <= {"present"}
        assert exported(other) == lines

    @settings(deadline=None)
    @given(data=st.data())
    def test_a_changed_byte_never_gets_in(self, data: st.DataObject) -> None:
        store = MemoryStore()
        stored(store)
        text = b"".join(exported(store))
        position = data.draw(st.integers(0, len(text) - 1))
        byte = data.draw(st.integers(0, 255).filter(lambda value: value != text[position]))
        damaged = text[:position] + bytes([byte]) + text[position + 1 :]

        whole = [item for item in items(damaged.splitlines(keepends=True)) if isinstance(item, ExportedThread)]

        for item in whole:  # metadata has no hash, and a key could not be another one's
            assert [record.body for record in item.records] == [record.body for record in store.load(item.thread.key)]

    @settings(deadline=None)
    @given(length=st.integers(0, 3000))
    def test_a_truncated_file_gives_whole_threads_only(self, length: int) -> None:
        store = MemoryStore()
        stored(store, "one")
        stored(store, "two")
        text = b"".join(exported(store))

        found = items(text[:length].splitlines(keepends=True))

        for item in found:
            if isinstance(item, ExportedThread):
                assert len(item.records) == 2


class TestRefused:
    @pytest.fixture
    def lines(self) -> list[bytes]:
        store = MemoryStore()
        stored(store)
        return exported(store)

    @pytest.mark.parametrize(
        ("line", "what"),
        [
            (b"not json\n", "Expecting value"),
            (b"[]\n", "not a JSON object"),
            (b'{"v":1,"type":"thread","v":1}\n', "duplicate key"),
            (b'{"v":1,"type":"thread","thread":NaN}\n', "NaN is not JSON"),
            (b'{"v":1,"type":"thread","thread":1e999}\n', "too large a number"),
            (b'{"v":1,"type":"\\ud800"}\n', "surrogate"),
            (b'{"v":1,"type":"\xff"}\n', "utf-8"),
            (b'{"v":1,"type":' + b"[" * 100 + b"]" * 100 + b"}\n", "nested deeper"),
            (b'{"v":1,"type":' + b"[" * 100_000, "nested deeper"),
            (b'{"v":3,"type":"thread"}\n', "version 3"),
            (b'{"v":1,"type":"approval"}\n', "unknown type"),
            (b'{"v":1,"type":"record"}\n', "before any thread"),
            (b'{"v":1,"type":"thread","thread":{}}\n', "the field 'key' is missing"),
        ],
    )
    def test_an_unknown_line_is_refused_with_its_number(self, lines: list[bytes], line: bytes, what: str) -> None:
        refused, whole = items([line, *lines])

        assert isinstance(refused, Refused)
        assert refused.line == 1
        assert what in refused.what
        assert isinstance(whole, ExportedThread)

    @pytest.mark.parametrize(
        ("field", "value", "what"),
        [
            ("key", "../../etc/passwd", "not a UUIDv7"),
            ("key", 7, "'key' must be text"),
            ("name", "a\x1b[2J", "not printable"),
            ("name", "-x", "starts with '-'"),
            ("name", "e\u0301", "NFC"),
            ("used", "yesterday", "RFC 3339"),
            ("schema", 3, "upgrade afk"),
            ("head", "0" * 64, "last record is missing"),
            ("turns", 9, "does not fit"),
            ("next_index", 1, "does not fit"),
            ("open_turn", {"turn": 3, "run_id": "r", "index": 9, "started": ""}, "open turn is missing"),
            ("cost_usd", "free", "cost_usd"),
            ("usage", {"input_tokens": "7"}, "usage"),
        ],
    )
    def test_metadata_that_is_not_right_is_named(
        self, lines: list[bytes], field: str, value: object, what: str
    ) -> None:
        head = changed(lines[0], lambda form: form["thread"].update({field: value}))

        found = items([head, *lines[1:]])

        assert len(found) == 1
        assert isinstance(found[0], Refused)
        assert what in found[0].what

    def test_a_record_that_is_changed_missing_or_moved_costs_its_thread_only(self, lines: list[bytes]) -> None:
        store = MemoryStore()
        stored(store, "other")
        other = exported(store)
        forged = changed(lines[1], lambda form: form.update(body=form["body"].replace("answer", "lie")))
        for bad, line, what in (
            ([lines[0], forged, lines[2]], 2, "hash does not match"),
            ([lines[0], lines[2]], 2, "a record before its record"),
            ([lines[0], lines[1]], 1, "last record is missing"),
            ([lines[0], lines[2], lines[1]], 2, "a record before its record"),
            ([lines[0], lines[1], lines[1], lines[2]], 3, "out of order"),
        ):
            refused, whole = items([*bad, *other])
            assert isinstance(refused, Refused)
            assert (refused.line, what in refused.what) == (line, True), refused
            assert isinstance(whole, ExportedThread)
            assert whole.thread.name == "other"

    def test_a_bad_line_behind_a_whole_thread_does_not_cost_it(self, lines: list[bytes]) -> None:
        whole, refused = items([*lines, b"garbage\n", lines[1]])

        assert isinstance(whole, ExportedThread)
        assert refused == Refused(line=4, what=refused.what) if isinstance(refused, Refused) else False

    def test_records_of_another_thread_do_not_fit(self, lines: list[bytes]) -> None:
        store = MemoryStore()
        stored(store)

        [refused] = items([lines[0], *exported(store)[1:]])

        assert isinstance(refused, Refused)


class TestEnd:
    @pytest.fixture
    def threads(self) -> list[list[bytes]]:
        store = MemoryStore()
        for name in ("one", "two", "three"):
            stored(store, name)
        lines = exported(store)
        return [lines[start : start + 3] for start in (0, 3, 6)]

    def test_a_whole_export_is_whole_also_several_of_them_and_rescued_turns(self, threads: list[list[bytes]]) -> None:
        one, two, three = threads
        rescued = TestRescued().lines(1)
        for lines in (
            [*one, *two, *three, end(3)],
            [*one, end(1), *two, *three, end(2)],
            [*one, end(1), end(0)],
            [end(0)],
            rescued,
            [*rescued, *one, end(1)],
            [*one, end(1), *rescued],
            [*one, *two, end(2), b"\n"],
        ):
            assert incomplete(lines) == []
            assert not [item for item in items(lines) if isinstance(item, Refused)]

    def test_a_cut_between_two_lines_is_reported_and_complete_threads_are_kept(
        self, threads: list[list[bytes]]
    ) -> None:
        lines = [*threads[0], *threads[1], *threads[2], end(3)]
        for length in range(len(lines)):
            [(line, what)] = incomplete(lines[:length])
            assert (line, "closing line is missing" in what) == (length, True)
            whole = [item for item in items(lines[:length]) if isinstance(item, ExportedThread)]
            assert len(whole) == length // 3

    def test_a_wrong_count_in_the_closing_line_is_reported(self, threads: list[list[bytes]]) -> None:
        one, two, three = threads
        for lines, line, what in (
            ([*one, *three, end(3)], 7, "it has 2 threads, and its closing line says 3"),
            ([*one, *two, *three, end(1)], 10, "it has 3 threads, and its closing line says 1"),
            ([*one, *three, end(1), *two, end(1)], 7, "it has 2 threads, and its closing line says 1"),
            ([*one, end(1), *two], 7, "closing line is missing"),
            ([*one, *TestRescued().lines(1)], 4, "closing line is missing"),
        ):
            [told] = incomplete(lines)
            assert (told[0], what in told[1]) == (line, True), told

    def test_a_thread_that_is_refused_is_in_the_file_all_the_same(self, threads: list[list[bytes]]) -> None:
        one, two, _ = threads
        lines = [one[0], one[2], *two, end(2)]
        refused, whole = items(lines)
        assert isinstance(refused, Refused)
        assert isinstance(whole, ExportedThread)
        assert incomplete(lines) == []

    @pytest.mark.parametrize("count", [None, "1", True, 1.0, -1])
    def test_an_end_without_a_count_is_refused_and_counts_for_nothing(
        self, threads: list[list[bytes]], count: object
    ) -> None:
        lines = [*threads[0], changed(end(1), lambda form: form.update(threads=count))]
        whole, refused = items(lines)
        assert isinstance(whole, ExportedThread)
        assert isinstance(refused, Refused)
        assert "no valid number of threads" in refused.what
        assert len(incomplete(lines)) == 1

    def test_a_record_behind_the_end_belongs_to_nothing(self, threads: list[list[bytes]]) -> None:
        whole, refused = items([*threads[0], end(1), threads[1][1]])
        assert isinstance(whole, ExportedThread)
        assert refused == Refused(line=5, what="a line of type record comes before any thread")


class TestConflicts:
    def test_a_name_that_is_taken_is_refused_or_gets_a_suffix(self) -> None:
        here, there = MemoryStore(), MemoryStore()
        stored(here)
        stored(there)
        before = exported(here)

        with pytest.raises(ConflictError, match="--rename"):
            restore(here, exported(there))
        assert exported(here) == before
        [restored] = restore(here, exported(there), rename=True)

        assert restored.thread.name == "t-42-2"
        assert load_history(here, restored.thread).damage == ()
        assert len(here.list()) == 2

    def test_a_thread_with_newer_turns_here_is_already_present(self) -> None:
        store = MemoryStore()
        stored(store)
        lines = exported(store)
        lease = save_turn(store, acquired(store), "more", "answer")
        store.release(lease)

        assert [restored.outcome for restored in restore(store, lines)] == ["present"]

    def test_an_open_turn_that_was_sealed_here_is_there_already(self) -> None:
        store = MemoryStore()
        lease = acquired(store)
        lease = save(store, lease, with_question(lease.thread, "open"))
        lines = exported(store)
        messages = [text_message(Role.USER, "open"), text_message(Role.ASSISTANT, "answer")]
        store.release(save(store, lease, with_seal(lease.thread, messages)))

        assert [restored.outcome for restored in restore(store, lines)] == ["present"]

    def test_a_thread_with_different_turns_elsewhere_changes_nothing_here(self) -> None:
        here, there = MemoryStore(), MemoryStore()
        stored(here)
        restore(there, exported(here))
        there.release(save_turn(there, acquired(there), "there", "answer"))
        before = exported(here)

        with pytest.raises(ConflictError, match="has different turns"):
            restore(here, exported(there), rename=True)

        assert exported(here) == before


class TestRescued:
    def turn(self, number: int, **changes: Any) -> SealedTurn:
        store = MemoryStore()
        [turn] = load_history(store, stored(store, turns=1).thread).turns
        messages = (text_message(Role.USER, "rescued?"), text_message(Role.ASSISTANT, "rescued!"))
        return replace(turn, turn=number, run_id="the-run", messages=messages, **changes)

    def lines(self, number: int, **changes: Any) -> list[bytes]:
        return [rescued_line("t-42", self.turn(number, **changes)).encode()]

    def said(self, store: MemoryStore, name: str = "t-42") -> list[str]:
        thread = store.find(name)
        assert thread is not None
        return [message.text for turn in sent_turns(load_history(store, thread)) for message in turn.messages]

    def test_it_is_read_as_it_was_written(self) -> None:
        assert items(self.lines(3)) == [RescuedTurn(line=1, thread_id="t-42", turn=self.turn(3))]

    def test_it_goes_to_the_end_of_its_thread_once(self) -> None:
        store = MemoryStore()
        stored(store, turns=1)

        outcomes = [restore(store, self.lines(2))[0].outcome for _ in range(2)]

        assert outcomes == ["appended", "present"]
        assert self.said(store) == ["question 0", "answer 0", "rescued?", "rescued!"]

    def test_it_replaces_the_journal(self) -> None:
        store = MemoryStore()
        lease = stored(store, turns=1)
        lease = acquired(store)
        thread, question = with_question(lease.thread, "rescued?")
        assert thread.open_turn is not None
        thread = replace(thread, open_turn=replace(thread.open_turn, run_id="the-run"))
        store.release(save(store, lease, (thread, question)))

        outcomes = [restore(store, self.lines(2))[0].outcome for _ in range(2)]

        assert outcomes == ["appended", "present"]
        assert self.said(store) == ["question 0", "answer 0", "rescued?", "rescued!"]

    def test_without_its_thread_it_begins_one(self) -> None:
        store = MemoryStore()

        [restored] = restore(store, self.lines(7))

        assert (restored.outcome, restored.thread.turns) == ("imported", 1)
        assert self.said(store) == ["rescued?", "rescued!"]

    def test_a_thread_that_went_on_without_it_is_left_alone(self) -> None:
        store = MemoryStore()
        stored(store, turns=3)

        with pytest.raises(ConflictError, match="--rename"):
            restore(store, self.lines(2))
        [restored] = restore(store, self.lines(2), rename=True)
        [again] = restore(store, self.lines(2), rename=True)

        assert restored.thread.name == "t-42-2"
        assert (again.outcome, again.thread.name) == ("present", "t-42-2")
        assert len(self.said(store)) == 6

    def test_an_invalid_turn_is_refused_with_the_reason(self) -> None:
        for change in ({"turn": {}}, {"thread_id": "\n"}):
            [refused] = items([changed(self.lines(1)[0], lambda form, change=change: form.update(change))])
            assert isinstance(refused, Refused)

    def test_a_cut_one_is_sent_as_cut(self) -> None:
        store = MemoryStore()

        restore(store, self.lines(1, state=RunState.CANCELLED))

        assert "cut off" in self.said(store)[1]


PICTURE = Attachment(data=b"\x89PNG\r\n\x1a\n and so on", name="photo.png")
NOTES = Attachment(data=b"Bohnen", name="notes.txt")


def with_attachments(store: MemoryStore, *attachments: Attachment, name: str = "t-42") -> Lease:
    """Store a thread with a sealed turn to which `attachments` came, and a question to which the first came again."""
    asked = ask("what is it?", attachments)
    lease = acquired(store, name)
    lease = save(store, lease, with_question(lease.thread, "what is it?"), asked.contents)
    lease = save(store, lease, with_seal(lease.thread, [asked.message]))
    store.release(lease)
    return lease


class TestAttachments:
    def test_contents_come_back_and_are_exported_as_the_same_bytes(self) -> None:
        store, other = MemoryStore(), MemoryStore()
        lease = with_attachments(store, PICTURE, NOTES)
        with_attachments(store, PICTURE, name="other")
        lines = exported(store)
        restore(other, lines)
        assert exported(other) == lines
        assert len(lines) == 2 * 2 + 3
        for attachment in (PICTURE, NOTES):
            assert other.content(lease.thread.key, attachment.part.sha256) == attachment.data

    def test_a_question_that_was_not_answered_has_its_attachments(self) -> None:
        store, other = MemoryStore(), MemoryStore()
        asked = ask("what is it?", [PICTURE])
        lease = acquired(store)
        thread, record = with_question(lease.thread, "what is it?")
        body = {**json.loads(record.body), "messages": [message_to_json(asked.message)]}
        record = next_record(lease.thread, RecordKind.QUESTION, 1, body)
        thread = replace(thread, head=record.hash)
        store.append(thread, [record], "", lease, asked.contents)
        restore(other, exported(store))
        assert other.content(thread.key, PICTURE.part.sha256) == PICTURE.data

    def test_a_thread_with_a_missing_content_is_taken_and_the_content_named(self) -> None:
        store = MemoryStore()
        with_attachments(store, PICTURE, NOTES)
        [item] = items(exported(store)[:-1])
        assert isinstance(item, ExportedThread)
        assert item.missing == ("notes.txt",)

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"data": "AAAA"}, "the content of photo.png is damaged: its hash does not match"),
            ({"data": "not base64!"}, "the content of photo.png is not in base64"),
            ({"data": None}, "content does not match any attachment"),
            ({"sha256": "5e" * 32}, "content does not match any attachment"),
            ({"sha256": "../../etc/passwd"}, "content does not match any attachment"),
            ({"sha256": ["a"]}, "content does not match any attachment"),
        ],
    )
    def test_a_content_that_is_not_right_is_refused_with_its_thread(self, change: dict[str, Any], why: str) -> None:
        store = MemoryStore()
        with_attachments(store, PICTURE, NOTES)
        lines = exported(store)
        lines[2] = changed(lines[2], lambda form: form.update(change))
        [refused] = items(lines)
        assert isinstance(refused, Refused)
        assert refused.line == 3
        assert why in refused.what

    def test_a_content_before_any_thread_is_refused(self) -> None:
        [refused] = items([content_line(PICTURE.part.sha256, PICTURE.data).encode()])
        assert isinstance(refused, Refused)
        assert "a line of type content comes before any thread" in refused.what

    def test_a_rescued_turn_brings_its_contents(self) -> None:
        store = MemoryStore()
        asked = ask("what is it?", [PICTURE, NOTES])
        turn = replace(TestRescued().turn(1), messages=(asked.message,))
        line = rescued_line("t-42", turn).encode()
        contents = [content_line(sha256, data).encode() for sha256, data in asked.contents.items()]
        [done] = restore(store, [line, *contents])
        assert store.content(done.thread.key, PICTURE.part.sha256) == PICTURE.data
        [item] = items([line, contents[1]])
        assert isinstance(item, RescuedTurn)
        assert item.missing == ("photo.png",)
        assert [type(item) for item in items([line, exported(store)[1]])] == [Refused]
