"""The chat: reading what is typed, slash commands, completion, history and the status line."""
