"""What the engine on DBOS does beside the contract: the server goes and comes back, DBOS shows the prompts."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from afk_engine_dbos import Settings
from afk_engine_dbos.engine import DbosEngine
from dbos import DBOSClient
from dbos._serialization import DBOSPortableJSON

from afkcli.plugin import (
    BatchLimits,
    ClaimedPrompt,
    EngineError,
    Outcome,
    PromptState,
    QueuedPrompt,
    Reservation,
    TakenOver,
    mask_secrets,
)
from tests.postgres_server import postgres_server, schema_of
from tests.postgres_tls import TlsServer, certificate

DBOS = "shared_dbos"


@pytest.fixture
def schema(tmp_path: Path) -> Iterator[str]:
    name = schema_of(tmp_path)
    yield name
    postgres_server().execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


def opened(schema: str, grace: float = 0.0, **parameters: str) -> DbosEngine:
    url = postgres_server().url(**parameters)
    return DbosEngine(url, schema=schema, dbos_schema=DBOS, wait_timeout=30, grace=grace)


async def claimed(engine: DbosEngine, number: int, worker: str = "w") -> list[ClaimedPrompt]:
    await engine.create("b", {}, BatchLimits())
    await engine.submit(
        "b", [QueuedPrompt(id=f"p{n}", index=n, digest="d", request={"message": f"ask {n}"}) for n in range(number)]
    )
    await engine.join(worker)
    prompts = list((await engine.claim("b", worker, number)).prompts)
    await engine.reserve("b", [Reservation(id=item.id, claim=item.claim, model="one/model") for item in prompts])
    return prompts


def outcome(prompt: ClaimedPrompt, state: PromptState = PromptState.DONE) -> Outcome:
    return Outcome(id=prompt.id, claim=prompt.claim, state=state, result={"text": "paid"}, cost_usd=0.0)


def test_a_worker_keeps_its_answer_while_the_server_is_started_again(schema: str) -> None:
    async def body() -> None:
        engine, other = opened(schema), opened(schema, grace=3600)
        (prompt,) = await claimed(engine, 1)
        await asyncio.to_thread(postgres_server().lose_power)
        assert await other.take_over("b") == TakenOver(), "nobody is dead so soon after the start"
        assert list(await engine.settle("b", [outcome(prompt)])) == []
        (settled,) = await other.outcomes("b", ["p0"])
        assert settled.result == {"text": "paid"}
        await engine.aclose()
        await other.aclose()

    asyncio.run(body())


def test_a_worker_whose_session_was_cut_is_a_living_one_again(schema: str) -> None:
    async def body() -> None:
        engine, other = opened(schema, application_name=schema), opened(schema)
        (prompt,) = await claimed(engine, 1)
        await asyncio.to_thread(postgres_server().cut_connections, schema)
        held = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE locktype = 'advisory'"
        query = f"{held} AND application_name = '{schema}'"
        while postgres_server().execute(query) != [(1,)]:
            await engine.batch("b")  # the lock is taken again meanwhile
            await asyncio.sleep(0)
        assert await other.take_over("b") == TakenOver()
        assert list(await engine.settle("b", [outcome(prompt)])) == []
        await engine.aclose()
        await other.aclose()

    asyncio.run(body())


def test_dbos_shows_each_prompt_as_a_workflow_and_holds_no_pickle(schema: str) -> None:
    async def body() -> None:
        engine = opened(schema)
        one, two, _ = await claimed(engine, 3)
        await engine.settle("b", [outcome(one), outcome(two, PromptState.PARKED)])
        client = DBOSClient(
            system_database_url=postgres_server().url().replace("postgresql://", "postgresql+psycopg://"),
            dbos_system_schema=DBOS,
            serializer=DBOSPortableJSON,
            application_name="afk",
        )
        try:
            found = await client.list_workflows_async(workflow_id_prefix=f"{schema}/")
            statuses = {item.workflow_id.split("/")[2]: item for item in found}
            ordered = [statuses[number] for number in sorted(statuses, key=int)]
            assert [item.status for item in ordered] == ["SUCCESS", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "PENDING"]
            assert [item.input["args"][0] for item in ordered if item.input] == [
                {"message": f"ask {n}"} for n in range(3)
            ]
            assert ordered[0].output == {"text": "paid"}
            assert ordered[2].executor_id == "w"
        finally:
            client.destroy()
        await engine.retry("b", [PromptState.DONE, PromptState.PARKED])
        again = (await engine.claim("b", "w", 9)).prompts
        assert [(item.id, item.attempt) for item in again] == [("p0", 2), ("p1", 2)]
        await engine.aclose()

    asyncio.run(body())


def test_a_server_that_cannot_be_reached_is_said_without_the_password() -> None:
    engine = DbosEngine("postgresql://afk:hunter2@127.0.0.1:9/batches", wait_timeout=0)

    async def body() -> str:
        with pytest.raises(EngineError) as error:
            await engine.batches()
        await engine.aclose()
        return str(error.value)

    said = asyncio.run(body())
    assert "cannot be reached" in said
    assert "AFK_DATABASE_URL" in said
    assert "hunter2" not in said


def test_a_role_that_is_refused_is_named(schema: str) -> None:
    """Who is refused is what the reader needs; the password is not."""
    engine = DbosEngine(postgres_server().url().replace("postgres@", "nobody:hunter2@"), schema=schema, wait_timeout=0)

    async def body() -> str:
        with pytest.raises(EngineError) as error:
            await engine.batches()
        await engine.aclose()
        return mask_secrets(str(error.value))

    said = asyncio.run(body())
    assert 'role "nobody" does not exist' in said
    assert "hunter2" not in said


def test_a_batch_is_kept_over_tls_and_a_server_that_is_not_trusted_is_refused(schema: str, tmp_path: Path) -> None:
    server, shown, other = postgres_server(), certificate(tmp_path, "database"), certificate(tmp_path, "impostor")

    async def names(root: Path, port: int) -> list[str]:
        url = f"postgresql://postgres@localhost:{port}/postgres?sslmode=verify-full&sslrootcert={root}"
        engine = DbosEngine(url, schema=schema, dbos_schema=DBOS, wait_timeout=3600)
        try:
            await engine.create("b", {}, BatchLimits())
            return [batch.name for batch in await engine.batches()]
        finally:
            await engine.aclose()

    with TlsServer(f"{server.socket_folder}/.s.PGSQL.5432", shown) as tls:
        assert asyncio.run(names(shown.certificate, tls.port)) == ["b"]
        assert tls.ciphers
        with pytest.raises(EngineError, match=r"at localhost:.* is not trusted .*verify failed.*check sslrootcert"):
            asyncio.run(names(other.certificate, tls.port))


def test_tables_of_a_newer_afk_are_refused(schema: str) -> None:
    async def body() -> None:
        engine = opened(schema)
        await engine.create("b", {}, BatchLimits())
        await engine.aclose()
        with psycopg.connect(postgres_server().url(), autocommit=True) as connection:
            connection.execute(f"UPDATE {schema}.version SET version = 99".encode())
        later = opened(schema)
        with pytest.raises(EngineError, match="newer afk"):
            await later.batches()
        await later.aclose()

    asyncio.run(body())


@pytest.mark.parametrize(
    "values", [{"wait_timeout": -1}, {"grace": float("nan")}, {"schema": ""}, {"schema": "x" * 60}]
)
def test_a_setting_that_cannot_be_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Settings(**values)  # type: ignore[arg-type]


def test_the_plugin_imports_neither_dbos_nor_the_driver_before_it_is_used() -> None:
    code = "import afk_engine_dbos, sys; print(*sorted({'dbos', 'sqlalchemy', 'psycopg'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
