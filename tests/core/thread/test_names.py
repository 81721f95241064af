"""The names that threads may have."""

from __future__ import annotations

import pytest

from afkcli.core.contract.errors import InvalidNameError
from afkcli.core.thread.names import check_name


class TestNames:
    @pytest.mark.parametrize("name", ["a", "t-42", "../x", "a b", "Ünï", "日本", "x" * 200, "a/b\\c", "NUL", "."])
    def test_that_may_be_used(self, name: str) -> None:
        assert check_name(name) == name

    @pytest.mark.parametrize(
        "name", ["", " ", "\u3000", "-a", "x" * 201, "a\nb", "a\x1b[0m", "a\u202eb", "a\u200bb", "a\x00", "\ud800"]
    )
    def test_that_may_not(self, name: str) -> None:
        with pytest.raises(InvalidNameError) as error:
            check_name(name)
        assert "1 to 200 printable characters" in str(error.value)
        assert str(error.value).isprintable()

    def test_are_compared_in_nfc(self) -> None:
        assert check_name("e\u0301") == "é"
