"""Model provider for afk: llama.cpp in this process, with a small model to try afk without a key."""

AFK_HOOKS = 1
