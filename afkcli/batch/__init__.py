"""Batches: files of prompts that are run by worker processes, and the engine of one machine that keeps them."""
