"""Conversations of other programs: `llm`'s logs database, the session files of `codex` and of `claude`.

What is read is data: it is checked and bounded, nothing in it is run, and no path in it is opened. One module knows the
form of one source. All make a `Conversation`, which becomes a thread as an export of afk holds it.
"""
