"""Many runs in one event loop: `many_runs.py afk|sdk RUNS`. `afk` has memory and log on; `sdk` is the bare SDK."""

import asyncio
import os
import sys

AT = "m{}"


async def with_afk(runs: int) -> list[str]:
    """Return the answers of runs on threads of their own."""
    from afkcli import Agent, Runner

    runner = Runner()
    agent = Agent(name="bench", model=os.environ["BENCH_MODEL"], instructions="")
    results = await asyncio.gather(
        *(runner.run(agent, user_message=AT.format(at), thread_id=f"t{at}") for at in range(runs))
    )
    await runner.aclose()
    assert all(result.saved for result in results)
    return [result.final_text for result in results]


async def with_sdk(runs: int) -> list[str]:
    """Return the answers of streamed calls."""
    from openai import AsyncOpenAI

    client = AsyncOpenAI(max_retries=0)

    async def answer(at: int) -> str:
        stream = await client.chat.completions.create(
            model=os.environ["BENCH_MODEL"],
            messages=[{"role": "user", "content": AT.format(at)}],
            stream=True,
            stream_options={"include_usage": True},
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    return list(await asyncio.gather(*(answer(at) for at in range(runs))))


answers = asyncio.run((with_afk if sys.argv[1] == "afk" else with_sdk)(int(sys.argv[2])))
assert len(set(answers)) == 1
assert answers[0]
