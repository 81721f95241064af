"""Installs plugins into the environment that afk runs in: which tool made it, what a wheel declares, the commands."""
