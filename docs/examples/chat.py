"""A conversation of three turns: streamed, remembered by its thread, with the tokens that each turn used."""

import asyncio

from afk.agents import Agent, FailSafeConfig
from afk.core import Runner, RunnerConfig

QUESTIONS = [
    "What is the GIL in Python?",
    "How does it affect multithreading?",
    "What are the alternatives?",
]

agent = Agent(
    name="tutor",
    model="gpt-5.2-mini",
    instructions="""
    You are a helpful assistant. Answer in a few sentences.
    Build on what was said before in this conversation.
    """,
    fail_safe=FailSafeConfig(max_steps=10, max_total_cost_usd=0.25),
)


async def ask(runner: Runner, question: str):
    handle = await runner.run_stream(agent, user_message=question, thread_id="session-demo-42")
    async for event in handle:
        match event.type:
            case "text_delta":
                print(event.text_delta, end="", flush=True)
            case "error":
                print(f"\n[ERROR] {event.error}")
            case "completed":
                print(f"\n[DONE] ({event.result.state})")
    return handle.result


async def main():
    runner = Runner(config=RunnerConfig(interaction_mode="headless"))
    results = []
    for question in QUESTIONS:
        print(f"User: {question}\n\nAssistant: ", end="")
        results.append(await ask(runner, question))
        print()
    for number, result in enumerate(results, 1):
        print(f"Turn {number}: {result.usage.total_tokens} tokens")


asyncio.run(main())
