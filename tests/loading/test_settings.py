"""The settings of plugins, and the secrets among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pytest

from afkcli.core.contract.errors import ConfigError
from afkcli.host.secrets import MASK, Secrets
from afkcli.loading.settings import fill_settings

if TYPE_CHECKING:
    from nowhere import Nothing


@dataclass
class Settings:
    path: str = "x"
    count: int = 1
    ratio: float = 0.5
    on: bool = False
    mode: Literal["a", "b"] = "a"
    names: list[str] = field(default_factory=list)
    pair: tuple[int, ...] = ()
    table: dict[str, int] = field(default_factory=dict)
    mapping: Mapping[str, Any] = field(default_factory=dict)
    sequence: Sequence[str] = ()
    maybe: int | None = None
    token: str = field(default="", metadata={"secret": True, "env": "TEST_TOKEN"})
    size: int = field(default=0, metadata={"env": "TEST_SIZE"})
    headers: dict[str, str] = field(default_factory=dict, metadata={"secret": True})


def hook(settings: Settings) -> Nothing:  # the annotation of what it returns cannot be resolved, and need not be
    raise AssertionError


def fill(table: dict[str, Any], secrets: Secrets | None = None, factory: Callable[..., Any] = hook) -> Any:
    return fill_settings(factory, table, "[sinks.test]", secrets or Secrets())


def test_values_come_from_the_table_and_defaults_from_the_dataclass() -> None:
    settings = fill({"path": "y", "ratio": 2, "names": ["a"], "pair": [1, 2], "table": {"k": 1}, "maybe": 3})
    assert (settings.path, settings.ratio, settings.names, settings.pair) == ("y", 2.0, ["a"], (1, 2))
    assert isinstance(settings.ratio, float)
    assert (settings.count, settings.mode) == (1, "a")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"pat": 1}, "[sinks.test] has the unknown key 'pat'; did you mean 'path'?"),
        ({"path": 1}, "[sinks.test] path is 1; text was expected"),
        ({"count": True}, "a whole number was expected"),
        ({"count": 1.5}, "a whole number was expected"),
        ({"on": 1}, "true or false was expected"),
        ({"ratio": False}, "a number was expected"),
        ({"mode": "c"}, "'a' or 'b' was expected"),
        ({"names": "a"}, "an array of texts was expected"),
        ({"names": [1]}, "an array of texts was expected"),
        ({"table": {"k": "v"}}, "a table of whole numbers was expected"),
        ({"sequence": "abc"}, "was expected"),
        ({"maybe": "x"}, "a whole number was expected"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        fill(table)
    assert said in str(raised.value)


def test_the_environment_goes_before_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_SIZE", "7")
    monkeypatch.setenv("TEST_TOKEN", "from-the-environment")
    settings = fill({"size": 1, "token": "from-the-table"})
    assert (settings.size, settings.token) == (7, "from-the-environment")
    monkeypatch.setenv("TEST_SIZE", "many")
    with pytest.raises(ConfigError, match="TEST_SIZE is 'many'; a whole number was expected"):
        fill({})


def test_secrets_are_told_also_those_that_are_not_used_or_deep(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = Secrets()
    monkeypatch.setenv("TEST_TOKEN", "secret-of-environment")
    fill({"token": "secret-of-the-table", "headers": {"X-Key": "secret-of-a-header"}}, secrets)
    masked = secrets.mask("secret-of-environment secret-of-the-table secret-of-a-header")
    assert masked == f"{MASK} {MASK} {MASK}"


def test_a_secret_of_the_wrong_type_is_not_shown() -> None:
    with pytest.raises(ConfigError) as raised:
        fill({"token": 123456789})
    assert "123456789" not in str(raised.value)


def test_a_secret_that_a_default_finds_is_told() -> None:
    @dataclass
    class Found:
        key: str = field(default_factory=lambda: "found-elsewhere", metadata={"secret": True})

    def made(settings: Any) -> None: ...

    made.__annotations__["settings"] = Found
    secrets = Secrets()
    fill({}, secrets, made)
    assert secrets.mask("found-elsewhere") == MASK


def test_short_texts_are_no_secrets_and_long_ones_go_first() -> None:
    secrets = Secrets()
    for value in ("abc", "", None, 5, "secret", "secret-longer"):
        secrets.add(value)
    assert secrets.mask("abc secret-longer") == f"abc {MASK}"


def test_without_a_dataclass_the_table_comes_as_it_is() -> None:
    def plain(settings: Any) -> None: ...

    def bare(settings):  # type: ignore[no-untyped-def]
        ...

    assert fill({"a": 1}, factory=plain).a == 1
    assert fill({"a": 1}, factory=bare).a == 1


def test_an_annotation_that_names_nothing_is_said() -> None:
    def broken(settings: Nothing) -> None: ...

    with pytest.raises(ConfigError, match="NameError"):
        fill({}, factory=broken)


def test_a_missing_value_or_one_that_the_dataclass_refuses_is_a_config_error() -> None:
    @dataclass
    class Strict:
        needed: int

        def __post_init__(self) -> None:
            if self.needed < 0:
                raise ValueError("needed is less than 0")

    def strict(settings: Any) -> None: ...

    strict.__annotations__["settings"] = Strict
    with pytest.raises(ConfigError, match="needed"):
        fill({}, factory=strict)
    with pytest.raises(ConfigError, match="less than 0"):
        fill({"needed": -1}, factory=strict)
