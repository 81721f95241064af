"""Asks many questions at once, at most four at a time, and prints the answers in the order of the questions.

python batch.py < questions.txt
"""

import asyncio
import sys

from afkcli import Agent, FailSafeConfig, Runner

AT_ONCE = 4

agent = Agent(
    name="answers",
    model="gpt-5.2-mini",
    instructions="Answer in one sentence.",
    fail_safe=FailSafeConfig(max_wall_time_s=60),
)


async def main():
    questions = [line.strip() for line in sys.stdin if line.strip()]
    free = asyncio.Semaphore(AT_ONCE)

    async with Runner() as runner:

        async def ask(question):
            async with free:
                return await runner.run(agent, user_message=question)

        results = await asyncio.gather(*map(ask, questions))
    for question, result in zip(questions, results, strict=True):
        print(f"{question}\t{result.final_text if result.state == 'completed' else result.error}")
    return 0 if all(result.state == "completed" for result in results) else 1


sys.exit(asyncio.run(main()))
