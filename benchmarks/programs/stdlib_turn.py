"""The smallest client there is: one streamed turn over http.client, in a program that imports click and pluggy."""

import http.client
import json
import os
import sys
from urllib.parse import urlsplit

import click  # noqa: F401 - what a command line with plugins imports
import pluggy  # noqa: F401

url = urlsplit(os.environ["OPENAI_BASE_URL"])
connection = http.client.HTTPConnection(url.netloc)
body = {"model": os.environ["BENCH_MODEL"], "messages": [{"role": "user", "content": "hi"}], "stream": True}
headers = {"authorization": f"Bearer {os.environ['OPENAI_API_KEY']}", "content-type": "application/json"}
connection.request("POST", f"{url.path}/chat/completions", json.dumps(body), headers)
for line in connection.getresponse():
    if not line.startswith(b"data: {"):
        continue
    choices = json.loads(line[6:])["choices"]
    if choices and choices[0]["delta"].get("content"):
        sys.stdout.write(choices[0]["delta"]["content"])
        sys.stdout.flush()
