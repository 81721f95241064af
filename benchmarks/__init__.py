"""The cost of afk, as ratios to other programs that do the same; `python -m benchmarks` prints the table."""
