"""Model provider for afk: OpenAI's Responses API and every server that speaks Chat Completions."""

AFK_HOOKS = 1
