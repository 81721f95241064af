"""The bare script: one streamed turn over LiteLLM, as its README writes it."""

import os
import sys

from litellm import completion  # type: ignore[import-not-found, unused-ignore]

stream = completion(
    model=f"openai/{os.environ['BENCH_MODEL']}",
    messages=[{"role": "user", "content": "hi"}],
    stream=True,
    stream_options={"include_usage": True},
    max_retries=0,
)
for chunk in stream:
    if chunk.choices and chunk.choices[0].delta.content:
        sys.stdout.write(chunk.choices[0].delta.content)
        sys.stdout.flush()
