"""The contract of a store about records and contents: what is appended comes back, all or nothing."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from afkcli.core.contract.errors import (
    HeadMismatchError,
    LeaseLostError,
    NameTakenError,
    StoreError,
)
from afkcli.core.contract.ids import uuid7
from afkcli.core.contract.messages import Role, text_message
from afkcli.core.contract.protocols import (
    Fork,
    RecordKind,
    Store,
)
from afkcli.core.contract.result import Usage
from afkcli.core.thread.history import load_history
from afkcli.core.thread.records import advance, next_record
from afkcli.testing.store_case import PICTURE, StoreCase, kinds_of
from afkcli.testing.store_steps import (
    acquired,
    asked,
    digest,
    save,
    save_turn,
    with_journal,
    with_meta,
    with_question,
    with_seal,
)


class RecordContract(StoreCase):
    """What `StoreContract` asks of `append`, `load`, `content`, `delete` and the metadata of a thread."""

    def test_records_come_back_to_the_letter(self, store: Store) -> None:
        lease = acquired(store)
        bodies = [
            '{"v":1}',
            '{ "spaced" : [1, 2.50, 1e3],\n "é": "\\u00e9 🙂 \\n \\u0000" }',
            '{"long":"' + "x" * 100_000 + '"}',
        ]
        records = []
        thread = lease.thread
        for body in bodies:
            record = replace(next_record(thread, RecordKind.META, 0, {}), body=body)
            thread = advance(thread, record)
            records.append(record)
        store.append(thread, records, "", lease)
        assert store.load(thread.key) == records

    def test_metadata_comes_back_as_it_was(self, store: Store) -> None:
        lease = asked(store)
        everything = replace(
            lease.thread,
            folder="/home/someone/project",
            title='a "title"',
            agent="agent",
            model="provider/model",
            parent=Fork(key=uuid7(), name="parent", turn=3),
            usage=Usage(input_tokens=1, output_tokens=2, total_tokens=3, cache_read_input_tokens=4),
            cost_usd=None,
            tags=("one", "two"),
        )
        store.append(everything, [], lease.thread.head, lease)
        assert store.find("t-42") == everything
        assert store.renew(lease).thread == everything

    def test_a_seal_drops_the_question_and_journal_of_its_turn(self, store: Store) -> None:
        lease = asked(store)
        lease = save(store, lease, with_journal(lease.thread, "some"))
        assert kinds_of(store.load(lease.thread.key)) == ["question", "journal"]
        lease = save(store, lease, with_meta(lease.thread, title="title"))
        lease = save(store, lease, with_seal(lease.thread, [text_message(Role.USER, "question")]))
        assert kinds_of(store.load(lease.thread.key)) == ["meta", "seal"]
        lease = save(store, lease, with_question(lease.thread, "next"))
        assert kinds_of(store.load(lease.thread.key)) == ["meta", "seal", "question"]

    def test_a_history_is_whole(self, store: Store) -> None:
        lease = acquired(store)
        for number in range(5):
            lease = save_turn(store, lease, f"question {number}", f"answer {number}")
        history = load_history(store, lease.thread)
        assert history.damage == ()
        assert [turn.messages[1].text for turn in history.turns] == [f"answer {number}" for number in range(5)]

    def test_several_records_are_appended_all_or_nothing(self, store: Store) -> None:
        lease = acquired(store)
        thread, question = with_question(lease.thread, "question")
        thread, journal = with_journal(thread, "text")
        with pytest.raises(HeadMismatchError):
            store.append(thread, [question, journal], "another head", lease)
        assert store.load(thread.key) == []
        store.append(thread, [question, journal], "", lease)
        assert store.load(thread.key) == [question, journal]

    def test_an_append_needs_the_head_that_is_there(self, store: Store) -> None:
        lease = asked(store)
        before, records = store.find("t-42"), store.load(lease.thread.key)
        stale = replace(lease.thread, head="", next_index=0)
        with pytest.raises(HeadMismatchError, match="t-42"):
            save(store, replace(lease, thread=stale), with_journal(stale, "text"))
        assert store.find("t-42") == before
        assert store.load(lease.thread.key) == records

    def test_an_append_needs_the_lease_of_that_thread(self, store: Store) -> None:
        lease, other = acquired(store), acquired(store, "other")
        with pytest.raises(LeaseLostError):
            save(store, replace(lease, token=other.token), with_question(lease.thread, "question"))
        with pytest.raises(LeaseLostError):
            save(store, replace(lease, token=""), with_question(lease.thread, "question"))
        assert store.load(lease.thread.key) == []

    def test_a_new_name_renames_the_thread(self, store: Store) -> None:
        lease = save_turn(store, acquired(store, "old"), "question", "answer")
        lease = save(store, lease, with_meta(lease.thread, name="new"))
        assert store.find("old") is None
        assert store.find("new") == lease.thread
        assert [info.name for info in store.list()] == ["new"]
        assert store.holder("new") is not None
        assert len(store.load(lease.thread.key)) == 2
        assert acquired(store, "old").thread.key != lease.thread.key

    def test_a_name_that_is_taken_is_refused(self, store: Store) -> None:
        taken, lease = acquired(store, "taken"), acquired(store, "mine")
        with pytest.raises(NameTakenError, match="taken"):
            save(store, lease, with_meta(lease.thread, name="taken"))
        assert store.load(lease.thread.key) == []
        found = store.find("taken")
        assert found is not None
        assert found.key == taken.thread.key
        assert store.find("mine") == lease.thread

    def test_load_pages_both_ways(self, store: Store) -> None:
        lease = acquired(store)
        for number in range(4):
            lease = save_turn(store, lease, f"question {number}", "answer")
        lease = save(store, lease, with_question(lease.thread, "open"))
        lease = save(store, lease, with_journal(lease.thread, "text"))
        key = lease.thread.key
        every = list(store.load(key))
        assert [record.index for record in every] == [2, 5, 8, 11, 12, 13]
        for after in (-1, 0, 2, 8, 11, 12, 13, 99):
            wanted = [record for record in every if record.index > after]
            for limit in (None, 0, 1, 3, 5, 50):
                assert list(store.load(key, after=after, limit=limit)) == wanted[:limit]
                assert list(store.load(key, after=after, limit=limit, reverse=True)) == wanted[::-1][:limit]

    def test_an_unknown_thread_has_no_records(self, store: Store) -> None:
        acquired(store)
        assert list(store.load(uuid7())) == []
        assert list(store.load("")) == []

    def test_text_that_is_not_unicode_is_refused_and_harms_nothing(self, store: Store) -> None:
        lease = save_turn(store, acquired(store), "question", "answer")
        thread, record = with_meta(lease.thread, title="title")
        try:
            store.append(thread, [replace(record, body='{"text":"\ud800"}')], lease.thread.head, lease)
        except StoreError:
            assert len(store.load(lease.thread.key)) == 1
            assert store.find("t-42") == lease.thread

    # contents of attachments

    def test_contents_come_back_to_the_byte(self, store: Store) -> None:
        contents = {digest(data): data for data in (b"", b"\x00\xff\xfe text", "日本".encode(), os.urandom(3_000_000))}
        lease = acquired(store)
        lease = save(store, lease, with_question(lease.thread, "question"), contents)
        for sha256, data in contents.items():
            assert store.content(lease.thread.key, sha256) == data
        assert store.content(lease.thread.key, digest(b"another")) is None
        assert store.content(lease.thread.key, "") is None
        assert store.content(uuid7(), digest(b"")) is None

    def test_contents_belong_to_their_thread_and_stay_with_it(self, store: Store) -> None:
        sha256 = digest(PICTURE)
        lease = acquired(store, "one")
        lease = save(store, lease, with_question(lease.thread, "question"), {sha256: PICTURE})
        other = asked(store, "other")
        assert store.content(other.thread.key, sha256) is None
        other = save(store, other, with_seal(other.thread, []), {sha256: PICTURE})
        lease = save(store, lease, with_seal(lease.thread, [text_message(Role.USER, "question")]))
        lease = save(store, lease, with_meta(lease.thread, name="renamed"))
        assert store.content(lease.thread.key, sha256) == PICTURE
        store.delete(lease)
        assert store.content(lease.thread.key, sha256) is None
        assert store.content(other.thread.key, sha256) == PICTURE

    def test_the_same_content_may_come_again(self, store: Store) -> None:
        lease = acquired(store)
        lease = save(store, lease, with_question(lease.thread, "question"), {digest(PICTURE): PICTURE})
        lease = save(store, lease, with_seal(lease.thread, []))
        lease = save(store, lease, with_question(lease.thread, "again"), {digest(PICTURE): PICTURE, digest(b"b"): b"b"})
        assert store.content(lease.thread.key, digest(PICTURE)) == PICTURE
        assert store.content(lease.thread.key, digest(b"b")) == b"b"

    def test_contents_that_come_with_the_journal_are_there_before_and_after_the_seal(self, store: Store) -> None:
        lease, sha256 = asked(store), digest(PICTURE)
        lease = save(store, lease, with_journal(lease.thread, "seen"), {sha256: PICTURE})
        assert store.content(lease.thread.key, sha256) == PICTURE

        messages = [text_message(Role.USER, "question"), text_message(Role.ASSISTANT, "seen")]
        lease = save(store, lease, with_seal(lease.thread, messages), {sha256: PICTURE})
        assert store.content(lease.thread.key, sha256) == PICTURE

    def test_contents_of_the_journal_of_a_run_that_died_stay(self, store: Store) -> None:
        lease, sha256 = asked(store), digest(PICTURE)
        lease = save(store, lease, with_journal(lease.thread, "seen"), {sha256: PICTURE})
        lease = save(store, lease, with_seal(lease.thread, [text_message(Role.USER, "question")]))
        assert store.content(lease.thread.key, sha256) == PICTURE

    def test_contents_are_kept_with_their_records_or_not_at_all(self, store: Store) -> None:
        lease = acquired(store)
        contents = {digest(PICTURE): PICTURE}
        step = with_question(lease.thread, "question")
        with pytest.raises(HeadMismatchError):
            store.append(step[0], [step[1]], "another head", lease, contents)
        with pytest.raises(LeaseLostError):
            save(store, replace(lease, token=""), step, contents)
        taken = asked(store, "taken")
        with pytest.raises(NameTakenError):
            save(store, lease, with_meta(lease.thread, name=taken.thread.name), contents)
        assert store.content(lease.thread.key, digest(PICTURE)) is None

    # delete

    def test_a_deleted_thread_is_gone(self, store: Store) -> None:
        lease = save_turn(store, acquired(store), "question", "answer")
        other = save_turn(store, acquired(store, "other"), "question", "answer")
        assert len(store.list()) == 2
        store.delete(lease)
        assert store.find("t-42") is None
        assert store.holder("t-42") is None
        assert list(store.load(lease.thread.key)) == []
        assert [info.key for info in store.list()] == [other.thread.key]
        assert len(store.load(other.thread.key)) == 1
        with pytest.raises(LeaseLostError):
            store.delete(lease)
        with pytest.raises(LeaseLostError):
            save(store, lease, with_question(lease.thread, "question"))
        assert acquired(store).thread.key != lease.thread.key
