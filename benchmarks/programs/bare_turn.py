"""The bare script: one streamed turn over the openai SDK, as its README writes it. Argument: a file of messages (JSON),
or none for the message "hi"."""

import json
import os
import sys

from openai import OpenAI

if len(sys.argv) > 1:
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123  (pathlib would be one more import)
        messages = json.load(file)
else:
    messages = [{"role": "user", "content": "hi"}]
client = OpenAI(max_retries=0)
stream = client.chat.completions.create(
    model=os.environ["BENCH_MODEL"], messages=messages, stream=True, stream_options={"include_usage": True}
)
for chunk in stream:
    if chunk.choices and chunk.choices[0].delta.content:
        sys.stdout.write(chunk.choices[0].delta.content)
        sys.stdout.flush()
