"""What providers that speak HTTP share, for plugin authors: messages, event streams, tool names, what went wrong.

- `afkcli.providers.base`: a base class that implements all of a provider but its name and its `stream`.
- `afkcli.providers.connection`: the client of a vendor's SDK, a streamed request over it.
- `afkcli.providers.sse`: bytes to the data of server-sent events.
- `afkcli.providers.tool_names`: `server.tool` to a name that an API allows, and back.
- `afkcli.providers.chat`, `chat_answer`: messages and tools, and answers, in the form of Chat Completions.
- `afkcli.providers.parts`: texts of parts, tool arguments as JSON text.
- `afkcli.providers.attached`: images and files in base64.
- `afkcli.providers.wire`: the JSON of an event, a tool call, a token count.
- `afkcli.providers.failures`: the kind of error by HTTP status, `Retry-After`, the cause of a failed connection, text
  without secrets.
"""
