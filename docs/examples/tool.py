"""Gives an agent a Python function as a tool: the model asks for a price, and answers with it."""

import asyncio

from afkcli import Agent, Runner, ToolError, tool

PRICES = {"beans": 2.5, "spinach": 3.0}


@tool
def price(vegetable: str) -> str:
    """Return the price of a kilogram of a vegetable, in euros."""
    if vegetable not in PRICES:
        raise ToolError(f"unknown vegetable {vegetable!r}; known: {', '.join(PRICES)}")
    return f"{PRICES[vegetable]:.2f} EUR"


async def main():
    agent = Agent(name="clerk", model="gpt-5.2-mini", tools=[price])
    async with Runner() as runner:
        handle = await runner.run_stream(agent, user_message="What do two kilograms of beans cost?", thread_id="shop")
        async for event in handle:
            match event.type:
                case "tool_completed":
                    print(f"[{event.tool_name}: {event.tool_output}]")
                case "text_delta":
                    print(event.text_delta, end="", flush=True)
    print()


asyncio.run(main())
