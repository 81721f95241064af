"""JSON-Schema-Test-Suite, played against what afk makes of JSON Schemas."""
