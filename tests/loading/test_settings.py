"""The settings of plugins, and the secrets among them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NewType, TypeVar

import pytest

from afkcli.core.contract.credentials import MASK
from afkcli.core.contract.errors import ConfigError, PluginContractError
from afkcli.host.secrets import Secrets
from afkcli.loading.settings import fill_settings, masked_settings, settings_type

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
        ({"path": 1}, "[sinks.test] path is 1; a string was expected"),
        ({"count": True}, "an integer was expected"),
        ({"count": 1.5}, "an integer was expected"),
        ({"on": 1}, "true or false was expected"),
        ({"ratio": False}, "a number was expected"),
        ({"mode": "c"}, "'a' or 'b' was expected"),
        ({"names": "a"}, "an array of strings was expected"),
        ({"names": [1]}, "an array of strings was expected"),
        ({"table": {"k": "v"}}, "a table of integers was expected"),
        ({"sequence": "abc"}, "was expected"),
        ({"maybe": "x"}, "an integer was expected"),
    ],
)
def test_a_wrong_value_is_named_with_the_expected_type(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        fill(table)
    assert said in str(raised.value)


def test_the_environment_goes_before_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_SIZE", "7")
    monkeypatch.setenv("TEST_TOKEN", "from-the-environment")
    settings = fill({"size": 1, "token": "from-the-table"})
    assert (settings.size, settings.token) == (7, "from-the-environment")
    monkeypatch.setenv("TEST_SIZE", "many")
    with pytest.raises(ConfigError, match="TEST_SIZE is 'many'; an integer was expected"):
        fill({})


def test_secrets_are_registered_even_if_unused_or_nested(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = Secrets()
    monkeypatch.setenv("TEST_TOKEN", "secret-of-environment")
    fill({"token": "secret-of-the-table", "headers": {"X-Key": "secret-of-a-header"}}, secrets)
    masked = secrets.mask("secret-of-environment secret-of-the-table secret-of-a-header")
    assert masked == f"{MASK} {MASK} {MASK}"


def test_a_secret_of_the_wrong_type_is_not_shown() -> None:
    with pytest.raises(ConfigError) as raised:
        fill({"token": 123456789})
    assert "123456789" not in str(raised.value)


def test_a_secret_from_a_default_is_registered() -> None:
    @dataclass
    class Found:
        key: str = field(default_factory=lambda: "found-elsewhere", metadata={"secret": True})

    def made(settings: Any) -> None: ...

    made.__annotations__["settings"] = Found
    secrets = Secrets()
    fill({}, secrets, made)
    assert secrets.mask("found-elsewhere") == MASK


def test_short_texts_are_not_masked_and_long_ones_are_masked_first() -> None:
    secrets = Secrets()
    for value in ("abc", "", None, 5, "secret", "secret-longer"):
        secrets.add(value)
    assert secrets.mask("abc secret-longer") == f"abc {MASK}"


@dataclass(kw_only=True)
class Bed:
    plant: str
    litres: float = 1.0
    note: str = ""
    token: str = field(default="", metadata={"secret": True, "env": "BED_TOKEN"})


class Season(Enum):
    SPRING = "spring"
    SUMMER = "summer"


Metres = NewType("Metres", int)


@dataclass
class Garden:
    beds: dict[str, Bed] = field(default_factory=dict)
    rows: list[Bed] = field(default_factory=list)
    main: Bed | None = None
    corner: tuple[int, str] = (0, "")
    season: Season = Season.SPRING
    folder: Path = Path("x")
    tags: set[str] = field(default_factory=set)
    day: date | None = None
    width: Metres = Metres(1)


def dig(settings: Garden) -> None: ...


def garden(table: dict[str, Any], secrets: Secrets | None = None) -> Garden:
    made = fill_settings(dig, table, "[tools.test]", secrets or Secrets())
    assert isinstance(made, Garden)
    return made


def test_nested_dataclasses_are_filled_from_tables() -> None:
    made = garden(
        {"beds": {"north": {"plant": "peas", "litres": 2}}, "rows": [{"plant": "beans"}], "main": {"plant": "x"}}
    )
    assert made.beds == {"north": Bed(plant="peas", litres=2.0)}
    assert made.rows == [Bed(plant="beans")]
    assert made.main == Bed(plant="x")
    assert garden({}).main is None


def test_other_types_are_filled_as_their_annotation_says() -> None:
    table = {
        "corner": [1, "a"],
        "season": "summer",
        "folder": "~/x",
        "tags": ["b", "b"],
        "day": date(2026, 1, 2),
        "width": 3,
    }
    made = garden(table)
    assert (made.corner, made.season, made.folder) == ((1, "a"), Season.SUMMER, Path("~/x"))
    assert (made.tags, made.day, made.width) == ({"b"}, date(2026, 1, 2), 3)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"beds": {"north": {"plant": 1}}}, "[tools.test.beds.north] plant is 1; a string was expected"),
        (
            {"beds": {"north": {"plnt": "a"}}},
            "[tools.test.beds.north] has the unknown key 'plnt'; did you mean 'plant'?",
        ),
        ({"beds": {"north": {}}}, "[tools.test.beds.north] needs the key 'plant': a string"),
        ({"beds": {"north": "peas"}}, "[tools.test] beds.north is 'peas'; a table was expected"),
        ({"beds": ["peas"]}, "[tools.test] beds is an array; a table of tables was expected"),
        ({"rows": [{"plant": "a"}, {"plant": []}]}, "[tools.test.rows.1] plant is []; a string was expected"),
        ({"main": "peas"}, "[tools.test] main is 'peas'; a table was expected"),
        ({"corner": [1]}, "[tools.test] corner is [1]; an array of 2 values (an integer, a string) was expected"),
        ({"corner": ["a", 1]}, "an array of 2 values (an integer, a string) was expected"),
        ({"season": "winter"}, "[tools.test] season is 'winter'; 'spring' or 'summer' was expected"),
        ({"folder": 1}, "[tools.test] folder is 1; a path was expected"),
        ({"width": "a"}, "[tools.test] width is 'a'; an integer was expected"),
    ],
)
def test_a_wrong_value_in_a_nested_table_is_named_with_its_table(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        garden(table)
    assert said in str(raised.value)


def test_secrets_of_nested_dataclasses_are_kept_and_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BED_TOKEN", "canary-of-environment")
    secrets = Secrets()
    made = garden({"beds": {"north": {"plant": "peas", "token": "canary-of-the-table"}}}, secrets)
    assert made.beds["north"].token == "canary-of-environment"
    assert secrets.mask("canary-of-environment canary-of-the-table peas") == f"{MASK} {MASK} peas"


@pytest.mark.parametrize(
    "table",
    [
        {"beds": {"north": {"plant": 1, "token": "canary-1111"}}},
        {"beds": {"north": {"nothing": 1, "token": "canary-1111"}}},
        {"beds": [{"plant": "a", "token": "canary-1111"}]},
        {"rows": {"plant": "a", "token": "canary-1111"}},
        {"main": [{"token": "canary-1111"}]},
        {"beds": {"north": {"plant": "a", "token": ["canary-1111"]}}},
    ],
)
def test_no_nested_secret_is_in_an_error(table: dict[str, Any]) -> None:
    secrets = Secrets()
    with pytest.raises(ConfigError) as raised:
        garden(table, secrets)
    assert "canary" not in secrets.mask(str(raised.value))


def test_masked_settings_hide_secrets_in_every_depth() -> None:
    bed = {"plant": "peas", "token": "canary"}
    shown = masked_settings(
        Garden, {"beds": {"north": bed}, "rows": [bed], "main": bed, "corner": [1, "a"], "odd": "x"}
    )
    hidden = {"plant": "peas", "token": MASK}
    assert shown == {"beds": {"north": hidden}, "rows": [hidden], "main": hidden, "corner": [1, "a"], "odd": "x"}


class Custom: ...


def of_type(hint: Any, value: Any) -> Any:
    """Return the setting `x` of this type, filled with a value."""

    class Odd:
        x: Any

    Odd.__annotations__["x"] = hint
    kind = dataclass(Odd)

    def made(settings: Any) -> None: ...

    made.__annotations__["settings"] = kind
    return fill_settings(made, {"x": value}, "[tools.test]", Secrets()).x


@pytest.mark.parametrize(
    ("hint", "value", "filled"),
    [
        (tuple[int, str], [1, "a"], (1, "a")),
        (tuple[float, bool, Path], [1, True, "x"], (1.0, True, Path("x"))),
        (tuple[()], [], ()),
        (tuple, [1, "a"], (1, "a")),
        (tuple[tuple[int, str], ...], [[1, "a"], [2, "b"]], ((1, "a"), (2, "b"))),
        (tuple[int, tuple[str, ...]], [1, ["a", "b"]], (1, ("a", "b"))),
        (dict[str, tuple[int, str]], {"k": [1, "a"]}, {"k": (1, "a")}),
        (tuple[int, str] | tuple[str, int], ["a", 1], ("a", 1)),
        (tuple[int, int] | tuple[int, int, int], [1, 2, 3], (1, 2, 3)),
        (tuple[int, str] | None, [1, "a"], (1, "a")),
        (set[tuple[int, str]], [[1, "a"], [1, "a"]], {(1, "a")}),
        (frozenset[frozenset[int]], [[1], [1]], frozenset({frozenset({1})})),
        (set[Any], [1, "a"], {1, "a"}),
    ],
)
def test_tuples_and_sets_are_filled_item_by_item(hint: Any, value: Any, filled: Any) -> None:
    made = of_type(hint, value)
    assert made == filled
    assert type(made) is type(filled)


PAIR = "2 values (an integer, a string)"


@pytest.mark.parametrize(
    ("hint", "value", "wanted"),
    [
        (tuple[int, str], ["a", 1], f"an array of {PAIR}"),
        (tuple[int, str], [1], f"an array of {PAIR}"),
        (tuple[int, str], [1, "a", "b"], f"an array of {PAIR}"),
        (tuple[int, bool], [1, 1], "an array of 2 values (an integer, true or false)"),
        (tuple[()], [1], "an array without values"),
        (tuple[tuple[int, str], ...], [[1, "a"], [2]], f"an array of arrays of {PAIR}"),
        (dict[str, tuple[int, str]], {"k": [1, 2]}, f"a table of arrays of {PAIR}"),
        (tuple[int, str] | str, [1], f"an array of {PAIR} or a string"),
        (tuple[int, int] | tuple[str, str], [1, "a"], "2 values (a string, a string)"),
        (set[Any], [[1]], "an array"),
        (set, [{"a": 1}], "an array"),
    ],
)
def test_a_tuple_or_set_of_other_values_is_refused_with_what_was_expected(hint: Any, value: Any, wanted: str) -> None:
    with pytest.raises(ConfigError) as raised:
        of_type(hint, value)
    assert str(raised.value).startswith(f"[tools.test] x is {value}; ")
    assert str(raised.value).endswith(f"{wanted} was expected")


@pytest.mark.parametrize(
    ("hint", "named"),
    [
        (bytes, "bytes"),
        (complex, "complex"),
        (Custom, "Custom"),
        (dict[int, str], "dict[int, str]"),
        (dict[str, Custom], "Custom"),
        (list[bytes], "bytes"),
        (tuple[int, Custom], "Custom"),
        (Callable[[], int], "collections.abc.Callable[[], int]"),
        (deque[str], "collections.deque[str]"),
        (str | Custom, "Custom"),
        (set[list[int]], "set[list[int]]"),
        (frozenset[dict[str, int]], "frozenset[dict[str, int]]"),
        (set[tuple[set[int], ...]], "set[tuple[set[int], ...]]"),
        (Bed | Garden, "tests.loading.test_settings.Bed | "),
        (Literal[b"a"], "Literal[b'a']"),
        (TypeVar("T"), "~T"),
    ],
)
def test_a_type_that_cannot_be_filled_is_refused_with_the_field_and_the_supported_types(hint: Any, named: str) -> None:
    class Wrong:
        fine: str = ""
        wrong: Any = None

    Wrong.__annotations__["wrong"] = hint
    kind = dataclass(Wrong)

    def made(settings: Any) -> None: ...

    made.__annotations__["settings"] = kind
    with pytest.raises(PluginContractError) as raised:
        settings_type(made)
    assert f"the setting 'wrong' has the unsupported type {named}" in str(raised.value)
    assert "supported: str, int, float, bool" in str(raised.value)


def test_an_unsupported_type_in_a_nested_dataclass_is_named_by_its_path() -> None:
    @dataclass
    class Inner:
        data: bytes = b""

    @dataclass
    class Outer:
        inner: dict[str, Any] = field(default_factory=dict)

    Outer.__annotations__["inner"] = dict[str, Inner]

    def made(settings: Any) -> None: ...

    made.__annotations__["settings"] = Outer
    with pytest.raises(PluginContractError, match=r"the setting 'inner\.data' has the unsupported type bytes"):
        settings_type(made)


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
