"""Tests of the chat: what is read, completed, kept and shown."""
