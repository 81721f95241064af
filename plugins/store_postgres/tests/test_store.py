"""What the store on PostgreSQL does beyond the contract of all stores."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from afk_store_postgres import Settings, layout
from afk_store_postgres.store import PostgresStore

from afkcli.core.contract.messages import Role, text_message
from afkcli.core.thread.batch import apply
from afkcli.core.thread.history import load_history
from afkcli.core.thread.searching import search_turns
from afkcli.core.thread.turn_text import words_of
from afkcli.plugin import Add, StoreError, TurnSearch, current_owner, replace
from afkcli.testing.store_steps import acquired, appended, asked, save, save_turn, with_journal, with_meta, with_seal
from tests.postgres_server import PostgresServer

Open = Callable[[], PostgresStore]


def found(store: PostgresStore, words: str) -> list[str]:
    """Return the names of the threads that a search finds."""
    return [match.thread.name for match in search_turns(store, TurnSearch(words=words_of(words)), 20)]


# tables


def made_older(server: PostgresServer, schema: str) -> None:
    """Take back what version 2 of the tables has added."""
    server.execute(f"DROP TABLE {schema}.place")
    for name in ("taken", "stale", "forked"):
        server.execute(f"ALTER TABLE {schema}.thread DROP COLUMN {name}")
    server.execute(f"UPDATE {schema}.version SET version = 1")


def test_tables_of_an_older_version_are_brought_up_to_date(
    server: PostgresServer, schema: str, store: PostgresStore, open_store: Open
) -> None:
    lease = save_turn(store, acquired(store, "old"), "apple", "pear")
    store.close()
    made_older(server, schema)

    again = open_store()

    assert server.execute(f"SELECT version FROM {schema}.version") == [(2,)]
    assert again.find("old") == lease.thread
    assert found(again, "pear") == ["old"]
    again.release(save_turn(again, lease, "plum", "answer"))
    assert found(again, "plum") == ["old"]


def test_many_that_bring_tables_up_to_date_at_once_do_it_once(
    server: PostgresServer, schema: str, store: PostgresStore, open_store: Open
) -> None:
    lease = save_turn(store, acquired(store, "old"), "apple", "pear")
    made_older(server, schema)
    start = threading.Barrier(6)
    opened: list[PostgresStore] = []

    def use() -> None:
        start.wait()
        opened.append(open_store())

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.find("old") for one in opened] == [lease.thread] * 6
    assert server.execute(f"SELECT version FROM {schema}.version") == [(2,)]


def test_a_step_that_fails_leaves_the_older_tables(
    server: PostgresServer, schema: str, store: PostgresStore, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = save_turn(store, acquired(store, "old"), "apple", "pear")
    made_older(server, schema)
    broken = (layout.STEPS[0], (*layout.STEPS[1], "ALTER TABLE {s}.nowhere ADD COLUMN more integer"))
    with monkeypatch.context() as wrong:
        wrong.setattr(layout, "STEPS", broken)
        with pytest.raises(StoreError, match="nowhere"):
            open_store()
    assert server.execute(f"SELECT version FROM {schema}.version") == [(1,)]
    assert open_store().find("old") == lease.thread


def test_many_that_open_an_empty_database_at_once_make_one_set_of_tables(
    server: PostgresServer, schema: str, open_store: Open
) -> None:
    failures: list[Exception] = []
    start = threading.Barrier(6)

    def use() -> None:
        start.wait()
        try:
            open_store().add("turns", 1)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert server.execute(f"SELECT version FROM {schema}.version") == [(len(layout.STEPS),)]
    assert server.execute(f"SELECT value FROM {schema}.counter") == [(6.0,)]


def test_tables_of_a_newer_afk_are_refused_and_not_changed(
    server: PostgresServer, schema: str, store: PostgresStore, open_store: Open
) -> None:
    server.execute(f"UPDATE {schema}.version SET version = 99")
    with pytest.raises(StoreError, match=r"newer afk \(version 99, this one knows 2\); upgrade afk"):
        open_store()
    assert server.execute(f"SELECT version FROM {schema}.version") == [(99,)]


@pytest.mark.parametrize("name", ["Threads", 'a "quoted" name', "ünï", "select", "x" * 63, "a;b--", "%s {s}"])
def test_a_schema_may_have_any_name(server: PostgresServer, name: str) -> None:
    try:
        store = PostgresStore(server.url(), schema=name)
        lease = save_turn(store, acquired(store), "question", "answer")
        assert store.find("t-42") == lease.thread
        assert found(store, "answer") == ["t-42"]
        assert [info.name for info in store.list()] == ["t-42"]
        store.close()
    finally:
        server.execute('DROP SCHEMA IF EXISTS "' + name.replace('"', '""') + '" CASCADE')


def test_a_role_needs_no_more_than_a_schema_that_exists(server: PostgresServer, schema: str) -> None:
    role = f"role_{schema}"
    server.execute(f"CREATE ROLE {role} LOGIN NOSUPERUSER")
    server.execute(f"CREATE SCHEMA {schema} AUTHORIZATION {role}")
    url = server.url(user=role)
    maker = PostgresStore(url, schema=schema)
    maker.close()
    reader = f"reader_{schema}"
    server.execute(f"CREATE ROLE {reader} LOGIN NOSUPERUSER")
    try:
        with pytest.raises(StoreError, match=r"does not allow this .*docs/how-to/postgres.md"):
            PostgresStore(server.url(user=reader), schema=schema)
        server.execute(f"GRANT USAGE ON SCHEMA {schema} TO {reader}")
        server.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {reader}")
        store = PostgresStore(server.url(user=reader), schema=schema)
        lease = save_turn(store, acquired(store), "question", "answer")
        assert found(store, "answer") == ["t-42"]
        assert store.add("turns", 1) == 1
        store.delete(lease)
        store.close()
    finally:
        server.execute(f"DROP SCHEMA {schema} CASCADE")
        server.execute(f"DROP ROLE {role}, {reader}")


def test_a_database_that_cannot_hold_all_text_is_refused(server: PostgresServer, schema: str) -> None:
    server.execute(f"CREATE DATABASE latin_{schema} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(StoreError, match="has the encoding LATIN1; create one with ENCODING 'UTF8'"):
            PostgresStore(server.url(dbname=f"latin_{schema}"), schema=schema)
    finally:
        server.execute(f"DROP DATABASE latin_{schema}")


# what text may hold


@pytest.mark.parametrize("text", ["a\0b", "lone \ud800 half", "\x01\x1b[31m", "\U0010ffff", "\\u0000", "a\\000b"])
def test_texts_that_no_column_holds_are_kept_with_their_thread(store: PostgresStore, text: str) -> None:
    lease = acquired(store)
    lease = save(store, lease, with_meta(lease.thread, title=text, folder=f"/{text}", tags=(text, "plain")))
    clean = "lone ? half" if "\ud800" in text else text
    lease = save_turn(store, lease, f"apple {clean}", clean)
    there = store.find("t-42")
    assert there is not None
    assert load_history(store, there).damage == ()
    assert load_history(store, there).turns[0].messages[1].text == clean
    assert [info.name for info in store.list(folder=f"/{text}")] == ["t-42"]
    assert found(store, "apple") == ["t-42"]
    assert store.find(text) is None
    assert store.holder(text) is None
    assert list(store.load(text)) == []
    assert store.content(text, text) is None


def test_names_that_no_column_holds_are_refused_and_harm_nothing(store: PostgresStore) -> None:
    lease = asked(store)
    for name in ("a\0b", "\ud800"):
        with pytest.raises(StoreError, match="cannot be stored in PostgreSQL"):
            store.acquire(name, current_owner("run"))
        with pytest.raises(StoreError, match="cannot be stored in PostgreSQL"):
            save(store, lease, with_meta(lease.thread, name=name))
        with pytest.raises(StoreError, match="cannot be stored in PostgreSQL"):
            store.add(name, 1)
    assert store.find("t-42") == lease.thread


# transactions


def test_an_operation_that_the_server_refuses_costs_only_itself(store: PostgresStore) -> None:
    lease, other = asked(store), asked(store, "other")
    thread, record = with_journal(lease.thread, "text")
    broken = replace(record, turn=2**70)  # no integer of the server holds it
    step = with_journal(other.thread, "text")
    results = apply(store, [appended(lease, (thread, broken)), appended(other, step), Add("turns", 1)])
    assert isinstance(results[0], StoreError)
    assert results[1:] == [None, 1.0]
    assert store.find("other") == step[0]
    assert store.find("t-42") == lease.thread


def test_a_counter_is_added_to_once_where_the_answer_of_the_server_was_lost(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = asked(store)
    lose_the_next_answers(monkeypatch, 1)
    assert store.add("turns", 1) == 1
    lose_the_next_answers(monkeypatch, 1)
    lease = save(store, lease, with_journal(lease.thread, "text"))
    lose_the_next_answers(monkeypatch, 2)
    sealed = with_seal(lease.thread, [text_message(Role.USER, "question")])
    assert apply(store, [appended(lease, sealed), Add("turns", 1)]) == [None, 2.0]
    lose_the_next_answers(monkeypatch, 1)
    store.release(lease)
    lose_the_next_answers(monkeypatch, 1)
    lease = acquired(store)
    lose_the_next_answers(monkeypatch, 1)
    store.delete(lease)
    assert store.find("t-42") is None
    assert store.add("turns", 0) == 2


def lose_the_next_answers(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let the server commit so many transactions, whose answers do not arrive."""
    from afk_store_postgres.connections import WatchedConnection

    left = [count]
    real = psycopg.Connection.execute

    def execute(self: WatchedConnection, query: object, *values: object, **options: object) -> object:
        result = real(self, query, *values, **options)  # type: ignore[arg-type]
        if query == "COMMIT" and left[0]:
            left[0] -= 1
            self.close()
            raise psycopg.OperationalError("the connection is closed")
        return result

    monkeypatch.setattr(WatchedConnection, "execute", execute)


# damage


def test_damaged_metadata_is_made_again_from_the_records(
    store: PostgresStore, server: PostgresServer, schema: str
) -> None:
    lease = save_turn(store, acquired(store), "question", "answer")
    server.execute(f"UPDATE {schema}.thread SET info = 'not metadata'")
    there = store.find("t-42")
    assert there is not None
    assert (there.key, there.head, there.turns) == (lease.thread.key, lease.thread.head, 1)
    assert [info.name for info in store.list()] == ["t-42"]
    store.release(lease)
    save_turn(store, acquired(store), "second", "answer")
    assert len(load_history(store, store.list()[0]).turns) == 2


def test_a_damaged_record_is_named_and_its_neighbours_are_used(
    store: PostgresStore, server: PostgresServer, schema: str
) -> None:
    lease = acquired(store)
    for number in range(3):
        lease = save_turn(store, lease, f"question {number}", "answer")
    server.execute(f"UPDATE {schema}.record SET body = 'x' WHERE turn = 2")
    history = load_history(store, lease.thread)
    assert [turn.turn for turn in history.turns] == [1, 3]
    assert len(history.damage) >= 1
    server.execute(f"UPDATE {schema}.record SET kind = 'other', body = '\\xff' WHERE turn = 2")
    assert [turn.turn for turn in load_history(store, lease.thread).turns] == [1, 3]


def test_a_missing_table_is_an_error_of_one_line(store: PostgresStore, server: PostgresServer, schema: str) -> None:
    server.execute(f"DROP TABLE {schema}.counter")
    with pytest.raises(StoreError, match=r"is damaged \(.*counter.*\); restore it from a backup") as raised:
        store.add("turns", 1)
    assert "\n" not in str(raised.value)


# addresses and secrets


def test_a_password_is_in_no_error_and_no_repr(server: PostgresServer) -> None:
    for url in (
        "postgresql://user:topsecret@127.0.0.1:1/db",
        "host=127.0.0.1 port=1 password=topsecret dbname=db",
        "postgresql://127.0.0.1:1/db?password=topsecret",
    ):
        with pytest.raises(StoreError, match=r"PostgreSQL at 127.0.0.1:1, database db cannot be reached") as raised:
            PostgresStore(url)
        assert "topsecret" not in str(raised.value)
        assert "\n" not in str(raised.value)
        assert "topsecret" not in repr(Settings(url=url))


def test_a_wrong_connection_string_is_an_error_of_one_line() -> None:
    for url in ("host", "postgresql://[", "nonsense=1 password=topsecret", "a b c"):
        with pytest.raises(StoreError, match="AFK_DATABASE_URL") as raised:
            PostgresStore(url)
        assert "\n" not in str(raised.value)
        assert "topsecret" not in str(raised.value)


def test_a_service_file_and_a_password_file_are_those_of_libpq(
    server: PostgresServer, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = tmp_path / "services"
    service.write_text(f"[threads]\nhost={server.socket_folder}\nuser=postgres\ndbname=postgres\n")
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    store = PostgresStore("service=threads", schema=schema)
    assert store.add("turns", 1) == 1
    store.close()
    monkeypatch.setenv("PGSERVICE", "threads")
    store = PostgresStore(schema=schema)
    assert store.add("turns", 1) == 2
    store.close()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"wait_timeout": -1}, "wait_timeout must be"),
        ({"wait_timeout": float("nan")}, "wait_timeout must be"),
        ({"schema": ""}, "schema must be"),
        ({"schema": "x" * 64}, "schema must be"),
        ({"schema": "a\0b"}, "schema must be"),
    ],
)
def test_a_setting_out_of_range_is_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings(**values)  # type: ignore[arg-type]
