"""Counts runs and tokens by model, from the events that `afk` logs.

afk events tail --json -n 10000 | python tokens.py
"""

import json
import sys
from collections import Counter

runs, tokens = Counter(), Counter()
models = {}

for line in sys.stdin:
    event = json.loads(line)
    match event["type"]:  # types that are not named here are ignored: later versions have more
        case "run_started":
            models[event["run_id"]] = event["model"]
        case "completed":
            model = models.get(event["run_id"], "unknown")
            runs[model] += 1
            tokens[model] += event["result"]["usage"]["total_tokens"]

for model, count in runs.most_common():
    print(f"{model}\t{count} runs\t{tokens[model]} tokens")
