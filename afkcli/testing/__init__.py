"""What a plugin author tests with: contract tests for each kind of plugin, and a scripted model server.

- `afkcli.testing.model_server`: a model server on a real socket that says what a script tells it to.
- `afkcli.testing.provider_contract`: the tests that every provider passes.
- `afkcli.testing.fixtures`: pytest fixtures to import into a `conftest.py`.
"""
