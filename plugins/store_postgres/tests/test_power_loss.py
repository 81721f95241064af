"""A journal does not wait for the disk of the server; what a server forgets that loses its power comes again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from afk_store_postgres.store import PostgresStore
from afk_store_postgres.unsynced import Unsynced

from afkcli.core.contract.messages import Role, text_message
from afkcli.core.thread.history import load_history
from afkcli.plugin import Append, HeadMismatchError, Lease, LeaseLostError, Record, RecordKind, Release, Renew
from afkcli.testing.store_steps import acquired, appended, asked, digest, save, with_journal, with_question, with_seal
from tests.postgres_server import PostgresServer

PICTURE = b"a picture"
IS_BEHIND = "SELECT pg_current_wal_flush_lsn() < pg_current_wal_insert_lsn()"


@pytest.fixture
def server(server: PostgresServer) -> Iterator[PostgresServer]:
    """A server that writes to its disk what no transaction waits for every 10 s only."""
    _set(server, "ALTER SYSTEM SET wal_writer_delay = '10s'")
    yield server
    _set(server, "ALTER SYSTEM RESET wal_writer_delay")


def _set(server: PostgresServer, setting: str) -> None:
    server.execute(setting)
    server.execute("SELECT pg_reload_conf()")


def kinds(store: PostgresStore, lease: Lease) -> list[RecordKind]:
    return [record.kind for record in store.load(lease.thread.key)]


def journaled(store: PostgresStore, server: PostgresServer, lease: Lease) -> tuple[Lease, int]:
    """Journal until the disk of the server does not have all; return the lease, and the number of journal records."""
    for number in range(1, 200):
        lease = save(store, lease, with_journal(lease.thread, f"piece {number} "))
        if server.execute(IS_BEHIND) == [(True,)]:
            return lease, number
    pytest.fail("each journal waits for the disk of the server")


@pytest.fixture
def open_turn(store: PostgresStore, server: PostgresServer) -> tuple[Lease, int]:
    """A turn of whose journal the server has forgotten the end, because it has just lost its power."""
    lease = asked(store)
    lease = save(store, lease, with_journal(lease.thread, "with a picture"), {digest(PICTURE): PICTURE})
    lease, number = journaled(store, server, lease)
    server.lose_power()
    assert len(kinds(store, lease)) < number + 2, "the server has forgotten nothing"
    return lease, number + 2


def test_a_journal_does_not_wait_for_the_disk_and_a_question_and_a_seal_do(
    store: PostgresStore, server: PostgresServer
) -> None:
    lease = asked(store)
    assert server.execute(IS_BEHIND) == [(False,)]
    lease, _ = journaled(store, server, lease)
    lease = save(store, lease, with_seal(lease.thread, []))
    assert server.execute(IS_BEHIND) == [(False,)]
    save(store, lease, with_question(lease.thread, "again"))
    assert server.execute(IS_BEHIND) == [(False,)]


def test_what_the_server_has_forgotten_of_a_journal_comes_with_its_next_piece(
    store: PostgresStore, open_turn: tuple[Lease, int]
) -> None:
    lease, number = open_turn
    lease = save(store, lease, with_journal(lease.thread, "after it"))
    assert store.find("t-42") == lease.thread
    assert [record.index for record in store.load(lease.thread.key)] == list(range(number + 1))
    assert store.content(lease.thread.key, digest(PICTURE)) == PICTURE
    assert load_history(store, lease.thread).damage == ()


def test_a_turn_of_whose_journal_something_was_forgotten_is_sealed(
    store: PostgresStore, open_turn: tuple[Lease, int]
) -> None:
    lease, _ = open_turn
    lease = save(store, lease, with_seal(lease.thread, [text_message(Role.ASSISTANT, "the answer")]))
    assert kinds(store, lease) == [RecordKind.SEAL]
    history = load_history(store, lease.thread)
    assert history.damage == ()
    assert [message.text for message in history.turns[-1].messages][-1] == "the answer"


def test_a_journal_that_was_forgotten_twice_comes_again_twice(
    store: PostgresStore, server: PostgresServer, open_turn: tuple[Lease, int]
) -> None:
    lease, number = open_turn
    lease, more = journaled(store, server, lease)
    server.lose_power()
    lease = save(store, lease, with_journal(lease.thread, "the last"))
    assert len(kinds(store, lease)) == number + more + 1


def test_who_took_the_thread_meanwhile_is_not_written_over(
    store: PostgresStore, server: PostgresServer, schema: str, open_turn: tuple[Lease, int]
) -> None:
    lease, _ = open_turn
    server.execute(f"UPDATE {schema}.thread SET expires = now() - interval '1 s', owner = NULL")
    taken = acquired(store)
    with pytest.raises(LeaseLostError):
        save(store, lease, with_journal(lease.thread, "too late"))
    assert store.find("t-42") == taken.thread


def test_a_record_that_does_not_follow_what_was_forgotten_is_refused(
    store: PostgresStore, open_turn: tuple[Lease, int]
) -> None:
    lease, _ = open_turn
    thread, record = with_journal(lease.thread, "wrong")
    with pytest.raises(HeadMismatchError):
        store.append(thread, [record], "0" * 64, lease)


# what is kept for it


def _journal(lease: Lease, text: str) -> Append:
    return appended(lease, with_journal(lease.thread, text))


def test_nothing_is_kept_of_what_is_on_the_disk_or_given_back(store: PostgresStore) -> None:
    lease = asked(store)
    unsynced, token = Unsynced(), lease.token
    first = _journal(lease, "one")
    for ended in (Release(lease), appended(lease, with_seal(lease.thread, []))):
        unsynced.note([first], [None], is_synced=False)
        assert unsynced.behind(token, first.expected_head) == [first]
        unsynced.note([ended], [None], is_synced=True)
        assert unsynced.behind(token, first.expected_head) == ()
    unsynced.note([first], [None], is_synced=False)
    unsynced.note([first], [LeaseLostError("taken")], is_synced=False)
    assert unsynced.behind(token, first.expected_head) == ()


def test_what_failed_is_not_kept_and_a_renewal_changes_nothing(store: PostgresStore) -> None:
    lease = asked(store)
    unsynced, first = Unsynced(), _journal(lease, "one")
    unsynced.note([first], [HeadMismatchError("changed")], is_synced=False)
    assert unsynced.behind(lease.token, first.expected_head) == ()
    unsynced.note([first, Renew(lease)], [None, lease], is_synced=False)
    assert unsynced.behind(lease.token, first.expected_head) == [first]
    assert unsynced.behind("another", first.expected_head) == ()


def test_what_is_older_than_a_minute_is_not_kept(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    lease, unsynced = asked(store), Unsynced()
    first = _journal(lease, "one")
    record: Record = first.records[0]
    unsynced.note([first], [None], is_synced=False)
    monkeypatch.setattr("afk_store_postgres.unsynced.KEPT_SECONDS", -1)
    second = first._replace(expected_head=record.hash)
    unsynced.note([second], [None], is_synced=False)
    assert unsynced.behind(lease.token, first.expected_head) == ()
    assert unsynced.behind(lease.token, record.hash) == [second]
