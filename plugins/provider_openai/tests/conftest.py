import pytest

pytest.register_assert_rewrite("afkcli.testing.provider_contract", "afkcli.testing.batches_contract")

from afkcli.testing.fixtures import model_server  # noqa: E402, F401
