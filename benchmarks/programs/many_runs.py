"""Many turns in one event loop, each of a new thread: `many_runs.py WHAT TURNS [AT_ONCE]`, else all at once.

WHAT is `afk` (memory and log on), `afk-no-log`, `afk-nothing` (neither), `sdk` (the bare SDK), `openai-agents` (with
its memory on), or `raw` (sockets, to see how fast the server is).
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

Ask = Callable[[int], Awaitable[str]]


@asynccontextmanager
async def afk(*, log: bool = True, memory: bool = True) -> AsyncIterator[Ask]:
    """Runs on threads of their own."""
    from afkcli import Agent, Runner

    runner = Runner(store=None if memory else "memory", sinks=None if log else ())
    agent = Agent(name="bench", model=os.environ["BENCH_MODEL"], instructions="")

    async def ask(number: int) -> str:
        result = await runner.run(agent, user_message=f"m{number}", thread_id=f"{os.getpid()}-{number}")
        assert result.saved
        return result.final_text

    yield ask
    await runner.aclose()


@asynccontextmanager
async def sdk() -> AsyncIterator[Ask]:
    """Streamed calls."""
    from openai import AsyncOpenAI

    client = AsyncOpenAI(max_retries=0, timeout=100.0)  # a thousand calls at once take longer than 5 s to connect

    async def ask(number: int) -> str:
        stream = await client.chat.completions.create(
            model=os.environ["BENCH_MODEL"],
            messages=[{"role": "user", "content": f"m{number}"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    yield ask


@asynccontextmanager
async def openai_agents() -> AsyncIterator[Ask]:
    """Streamed runs with sessions in SQLite; what it would send to its maker is off."""
    from agents import (  # type: ignore[import-not-found, unused-ignore]
        Agent,
        OpenAIChatCompletionsModel,
        Runner,
        SQLiteSession,
        set_tracing_disabled,
    )
    from openai import AsyncOpenAI

    set_tracing_disabled(True)
    model = OpenAIChatCompletionsModel(model=os.environ["BENCH_MODEL"], openai_client=AsyncOpenAI(max_retries=0))
    agent = Agent(name="bench", instructions="", model=model)
    database = Path(os.environ["HOME"]) / "openai-agents.db"

    async def ask(number: int) -> str:
        session = SQLiteSession(f"{os.getpid()}-{number}", database)
        result = Runner.run_streamed(agent, f"m{number}", session=session)
        async for _ in result.stream_events():
            pass
        session.close()
        return str(result.final_output)

    yield ask


@asynccontextmanager
async def raw() -> AsyncIterator[Ask]:
    """Requests over sockets that stay open; the answer is read and not looked at."""
    server = urlsplit(os.environ["OPENAI_BASE_URL"])
    request = f"POST {server.path}/chat/completions HTTP/1.1\r\ncontent-length: 2\r\n\r\n{{}}".encode()
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(number: int) -> str:
        reader, writer = idle.pop() if idle else await asyncio.open_connection(server.hostname, server.port)
        writer.write(request)
        answer = await reader.readuntil(b"\r\n0\r\n\r\n")
        idle.append((reader, writer))
        return answer.decode()

    yield ask


PROGRAMS = {
    "afk": afk,
    "afk-no-log": lambda: afk(log=False),
    "afk-nothing": lambda: afk(log=False, memory=False),
    "sdk": sdk,
    "openai-agents": openai_agents,
    "raw": raw,
}


async def answers(what: str, turns: int, at_once: int) -> list[str]:
    """Return the answers of so many turns."""
    free = asyncio.Semaphore(at_once)

    async with PROGRAMS[what]() as ask:

        async def turn(number: int) -> str:
            async with free:
                return await ask(number)

        return list(await asyncio.gather(*(turn(number) for number in range(turns))))


turns = int(sys.argv[2])
at_once = int(sys.argv[3]) if len(sys.argv) > 3 else turns
result = asyncio.run(answers(sys.argv[1], turns, at_once))
assert len(set(result)) == 1
assert result[0]
