"""What a person sees: safe text, streams, messages, tables, renderers."""
