"""What is remembered: names, records, turns, history, and the worker that calls the store."""
