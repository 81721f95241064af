"""Tests of the benchmarks: the server, the arithmetic, what is installed and measured; they measure nothing of afk."""
