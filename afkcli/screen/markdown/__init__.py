"""Markdown on a terminal, laid out while it arrives. It brings a parser, so it is imported where it is drawn."""
