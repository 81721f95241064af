"""`Runner` as users meet it: wired with the installed plugins, the user's config and the command line's store."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import afkcli
from afkcli import Agent, AgentResult, MemoryStore, Runner, RunnerConfig
from afkcli.core.contract.errors import (
    ConfigError,
    MissingKeyError,
    ThreadBusyError,
    UnknownNameError,
    UsageError,
)
from afkcli.core.thread.history import load_history
from afkcli.testing.model_script import Step
from afkcli.testing.model_server import ModelServer
from afkcli.wiring.assembly import load_setup
from afkcli.wiring.models import choose_model
from afkcli.wiring.plugin_objects import open_store

KEY = "sk-canary-0123456789"
MODEL = "gpt-5.2-mini"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clean home and working folder, and no key."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AFK_MODEL", "AFK_DEMO", "AFK_STORE", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AFK_HOME", str(tmp_path / "afk"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return tmp_path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with ModelServer() as model_server:
        monkeypatch.setenv("OPENAI_BASE_URL", model_server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield model_server


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def run(runner: Runner, message: str = "hi", thread: str | None = "t", **agent: str) -> AgentResult:
    result = runner.run_sync(Agent(**agent), user_message=message, thread_id=thread)  # type: ignore[arg-type]
    runner.close()
    return result


class TestStore:
    def test_is_the_command_lines(self, server: ModelServer, home: Path) -> None:
        result = run(Runner(), model=MODEL)
        assert (result.final_text, result.saved, result.model) == ("reply 1: hi", True, f"openai/{MODEL}")
        store = open_store(load_setup(project=True))
        thread = store.find("t")
        assert thread is not None
        assert [turn.messages[0].text for turn in load_history(store, thread).turns] == ["hi"]
        store.close()
        assert list((home / "work").iterdir()) == []

    def test_remembers_between_runners(self, server: ModelServer) -> None:
        run(Runner(), "first", model=MODEL)
        run(Runner(), "second", model=MODEL)
        assert [message["content"] for message in server.bodies[1]["messages"]] == ["first", "reply 1: first", "second"]

    def test_in_memory_is_one_argument_away(self, server: ModelServer, home: Path) -> None:
        run(Runner(store="memory", sinks=()), model=MODEL)
        assert files(home) == []

    def test_can_be_given(self, server: ModelServer) -> None:
        store = MemoryStore()
        run(Runner(store=store, sinks=()), model=MODEL)
        assert store.find("t") is not None

    def test_a_runner_can_be_closed_twice_and_used_again(self, server: ModelServer) -> None:
        runner = Runner()
        assert run(runner, model=MODEL).saved
        runner.close()
        assert run(runner, model=MODEL).saved
        assert len(server.bodies[1]["messages"]) == 3


class TestModel:
    def test_of_the_thread_is_kept_by_an_agent_that_names_none(self, server: ModelServer) -> None:
        run(Runner(), model="openai/other-model")
        run(Runner())
        assert [body["model"] for body in server.bodies] == ["other-model", "other-model"]

    def test_of_a_new_thread_is_that_of_the_key(self, server: ModelServer) -> None:
        assert run(Runner()).model.startswith("openai/")

    def test_that_nothing_claims_is_refused_and_leaves_nothing(self, server: ModelServer) -> None:
        with pytest.raises(UnknownNameError, match="unknown model 'nope'"):
            run(Runner(), model="nope")
        with pytest.raises(UnknownNameError, match="no provider 'nope'"):
            run(Runner(), model="nope/x")
        store = open_store(load_setup())
        assert store.list() == []
        store.close()

    def test_without_its_key_is_refused_by_the_variables_name(self) -> None:
        with pytest.raises(MissingKeyError, match="OPENAI_API_KEY"):
            run(Runner(), model=MODEL)

    def test_that_is_embedded_can_be_forbidden_and_is_said(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("AFK_DEMO", "off")
        with pytest.raises(ConfigError, match="AFK_DEMO=off"):
            run(Runner())
        monkeypatch.delenv("AFK_DEMO")
        with caplog.at_level(logging.WARNING, logger="afkcli"):
            choose_model(Runner().setup, None, None, None)
        assert "embedded demonstration model" in caplog.text


class TestConfig:
    def test_of_the_working_directory_counts_only_when_asked(self, server: ModelServer, home: Path) -> None:
        (home / "work" / "afk.toml").write_text('model = "openai/of-the-project"\n')
        assert run(Runner(), thread="a").model != "openai/of-the-project"
        assert run(Runner(project=True), thread="b").model == "openai/of-the-project"

    def test_of_the_runner_counts(self, server: ModelServer) -> None:
        server.script(*[Step(status=500, headers={"Retry-After": "0"}, body={"error": {"message": "no"}})] * 3)
        result = run(Runner(RunnerConfig(max_retries=1)), model=MODEL)
        assert result.state == "failed"
        assert len(server.requests) == 2


class TestLoops:
    def test_one_runner_serves_one_event_loop_after_another(self, server: ModelServer) -> None:
        runner = Runner()
        for number in range(3):
            result = runner.run_sync(Agent(model=MODEL), user_message=f"m{number}", thread_id="t")
            assert result.saved
            assert len(runner._made._made) == 0  # no connection of a loop that has ended is left
        runner.close()
        assert [len(body["messages"]) for body in server.bodies] == [1, 3, 5]

    def test_run_sync_inside_a_loop_says_what_to_do(self, server: ModelServer) -> None:
        async def inside() -> None:
            async with Runner(store="memory", sinks=()) as runner:
                runner.run_sync(Agent(model=MODEL), user_message="hi")

        with pytest.raises(UsageError, match="event loop"):
            asyncio.run(inside())

    def test_tasks_on_one_thread_take_turns_and_lose_nothing(self, server: ModelServer) -> None:
        async def many() -> list[AgentResult]:
            async with Runner() as runner:
                agent = Agent(model=MODEL)
                return await asyncio.gather(
                    *(runner.run(agent, user_message=f"m{number}", thread_id="t") for number in range(8))
                )

        results = asyncio.run(many())
        assert all(result.saved and result.state == "completed" for result in results)
        assert [len(body["messages"]) for body in server.bodies] == [2 * number + 1 for number in range(8)]
        asked = [body["messages"][-1]["content"] for body in server.bodies]
        kept = [message["content"] for message in server.bodies[-1]["messages"] if message["role"] == "user"]
        assert kept == asked
        assert sorted(asked) == [f"m{number}" for number in range(8)]

    def test_tasks_on_many_threads_do_not_mix(self, server: ModelServer) -> None:
        async def many() -> list[AgentResult]:
            async with Runner() as runner:
                agent = Agent(model=MODEL)
                runs = (
                    runner.run(agent, user_message=f"{name}{turn}", thread_id=name)
                    for turn in range(2)
                    for name in "abcd"
                )
                return await asyncio.gather(*runs)

        assert all(result.saved for result in asyncio.run(many()))
        for body in server.bodies:
            said = {message["content"][-2] for message in body["messages"] if message["role"] == "user"}
            assert len(said) == 1

    def test_threads_with_a_runner_each_take_turns_on_one_thread(self, server: ModelServer) -> None:
        results: list[AgentResult] = []

        def work(number: int) -> None:
            results.append(run(Runner(), f"m{number}", model=MODEL))

        workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [result.saved for result in results] == [True] * 4
        assert [len(body["messages"]) for body in server.bodies] == [1, 3, 5, 7]


class TestImports:
    def test_public_names_are_there_and_lazy(self) -> None:
        for name in afkcli.__all__:
            assert getattr(afkcli, name) is not None
        assert set(afkcli.__all__) <= set(dir(afkcli))
        with pytest.raises(AttributeError, match="nope"):
            _ = afkcli.nope  # type: ignore[attr-defined]

    def test_the_seed_pages_names_are_the_same_objects(self) -> None:
        import afk.agents
        import afk.core

        assert afk.agents.Agent is Agent
        assert afk.core.Runner is Runner
        assert "afkcli.wiring.runner" in sys.modules


class TestThreads:
    def test_a_question_is_asked_again_undone_and_forked_from_python(self, server: ModelServer) -> None:
        agent = Agent(model=MODEL)

        async def changes() -> None:
            async with Runner() as runner:
                await runner.run(agent, user_message="first", thread_id="t")
                again = await runner.retry(agent, thread_id="t", user_message="better")
                assert again.final_text == "reply 2: better"
                assert [message["content"] for message in server.bodies[1]["messages"]] == ["better"]
                undone = await runner.threads.undo("t")
                assert ([turn.turn for turn in undone.gone], [turn.turn for turn in undone.back]) == ([2], [1])
                redone = await runner.threads.redo("t")
                assert [turn.turn for turn in redone.back] == [2]
                fork = await runner.threads.fork("t", "copy", at=1)
                assert (fork.name, fork.turns) == ("copy", 1)
                assert (await runner.threads.tag("t", add=["work"])).tags == ("work",)
                assert (await runner.threads.rename("t", "new")).name == "new"
                with pytest.raises(UnknownNameError):
                    await runner.threads.undo("t")

        asyncio.run(changes())

    def test_a_thread_that_a_run_holds_is_not_changed(self, server: ModelServer) -> None:
        server.script(Step(text="word ", repeat=100, delay_between=0.1))

        async def undo_while_it_runs() -> None:
            async with Runner() as runner:
                handle = await runner.run_stream(Agent(model=MODEL), user_message="hi", thread_id="t")
                with pytest.raises(ThreadBusyError):
                    await runner.threads.undo("t")
                await handle.cancel()

        asyncio.run(undo_while_it_runs())
