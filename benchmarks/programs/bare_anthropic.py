"""The bare script: one streamed turn over the anthropic SDK, as its README writes it."""

import os
import sys

from anthropic import Anthropic

client = Anthropic(max_retries=0)
stream = client.messages.create(
    model=os.environ["BENCH_CLAUDE_MODEL"],
    max_tokens=1024,
    messages=[{"role": "user", "content": "hi"}],
    stream=True,
)
for event in stream:
    if event.type == "content_block_delta" and event.delta.type == "text_delta":
        sys.stdout.write(event.delta.text)
        sys.stdout.flush()
