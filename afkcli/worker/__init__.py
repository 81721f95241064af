"""The warm worker: a process that keeps afk's modules imported, and forks a child for the next command ahead of it."""
