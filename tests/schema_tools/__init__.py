"""The JSON Schema of events in the tools that people use on schemas; `.ci/schema` installs them and runs this."""
