"""The config files: their keys, how two of them are merged, and the errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from afkcli.config.checking import line_of
from afkcli.config.merging import Config, fail_safe
from afkcli.config.reading import ConfigFile, load_user_config, parse_config
from afkcli.core.contract.errors import ConfigError


def config_file(path: Path, text: str) -> ConfigFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return load_user_config(path)


def both(tmp_path: Path, user: str, project: str) -> Config:
    return Config(
        user=config_file(tmp_path / "user" / "config.toml", user),
        project=config_file(tmp_path / "project" / "afk.toml", project),
    )


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("\nmodl = 'x'\n", 2, "did you mean 'model'?"),
        ("zzz = 1\n", 1, "known: agent, agents"),
        ("model = 5\n", 1, "'model' must be a string"),
        ("instructions = true\n", 1, "must be a string"),
        ("[limits]\nmax_steps = '5'\n", 2, "'limits.max_steps' must be an integer"),
        ("[limits]\nmax_steps = true\n", 2, "must be an integer"),
        ("[limits]\n\nmax_total_cost_usd = nan\n", 3, "must be 0 or greater"),
        ("[limits]\nmax_tool_calls = -1\n", 2, "must be 0 or greater"),
        ("[budgets]\nday_usd = -1\n", 2, "'budgets.day_usd' must be 0 or greater"),
        ("[budgets]\nday_usd = '5'\n", 2, "'budgets.day_usd' must be a number"),
        ("[budgets]\nday = 5\n", 2, "did you mean 'day_usd'?"),
        ("budgets = 5\n", 1, "'budgets' must be a table"),
        ("[limits]\nmax_wall_time_s = inf\n", 2, "must be greater than 0"),
        ("[limits]\nmax_steps = -1\n", 2, "must be greater than 0"),
        ("limits = 3\n", 1, "'limits' must be a table"),
        ("[limits]\nmax_step = 3\n", 2, "did you mean 'max_steps'?"),
        ("[options]\ntemperature = 'hot'\n", 2, "'options.temperature' must be a number"),
        ("[options]\ntemprature = 1\n", 2, "did you mean 'temperature'?"),
        ("[agents.a]\nmodel = 'x'\n[agents.b]\nmodel = 5\n", 4, "'agents.b.model' must be a string"),
        ("[agents]\na = 5\n", 2, "'agents.a' must be a table"),
        ("[agents.a.limits]\nmax_steps = 0\n", 2, "'agents.a.limits.max_steps' must be greater than 0"),
        ("[agents.a]\nfallback_models = [1]\n", 2, "must be an array of strings"),
        ("instructions = 'a'\ninstructions_file = 'b'\n", 2, "cannot be set together with 'instructions'"),
        ("[plugins]\npaths = 'x.py'\n", 2, "'plugins.paths' must be an array"),
        ("[plugins]\npath = []\n", 2, "did you mean 'paths'?"),
        ("[models]\nfast = 1\n", 2, "'models.fast' must be a string"),
        ("[providers]\nopenai = 'x'\n", 2, "'providers.openai' must be a table"),
        (
            '[prices."a/b"]\ninput = 1\n',
            1,
            "needs the numbers input and output, and may have cache_read",
        ),
        ('[prices."a/b"]\ninput = -1\noutput = 1\n', 1, "needs the numbers"),
        ('[prices."a/b"]\ninput = true\noutput = 1\n', 1, "needs the numbers"),
        ("a = \n", 1, "not valid TOML"),
        ("x = 1\nx = 2\n", 2, "not valid TOML"),
        ("x = [1,\n", 1, "not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    path = tmp_path / "afk.toml"
    with pytest.raises(ConfigError) as raised:
        parse_config(text.encode(), path)
    assert str(raised.value).startswith(f"{path}, line {line}: ")
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "data", [b"x = " + b"[" * 100_000, b"x = " + b"9" * 10_000, b"\n\nx = '\xff'\n", b"\x00", b"x = 1979-99-99"]
)
def test_invalid_toml_raises_a_config_error(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ConfigError, match="not"):
        parse_config(data, tmp_path / "afk.toml")


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    assert parse_config(b"\xef\xbb\xbfmodel = 'x/y'\n", tmp_path / "x") == {"model": "x/y"}


def test_a_missing_config_is_empty_and_an_unreadable_one_is_an_error(tmp_path: Path) -> None:
    assert load_user_config(tmp_path / "none").table == {}
    with pytest.raises(ConfigError, match="is not used: it is not a regular file"):
        load_user_config(tmp_path)


def test_lines_are_found_in_tables_quoted_keys_and_arrays() -> None:
    data = b'a.b = 1\n[x."y.z"]\nk = 1\n[[t]]\nk = 2\n'
    assert line_of(data, ("a", "b")) == 1
    assert line_of(data, ("x", "y.z", "k")) == 3
    assert line_of(data, ("t", "k")) == 5
    assert line_of(data, ("nowhere",)) == 1


class TestTwoFiles:
    def test_an_agent_of_both_is_merged_key_by_key(self, tmp_path: Path) -> None:
        config = both(
            tmp_path,
            "[agents.a]\nmodel = 'u/1'\ninstructions = 'user'\n[agents.a.options]\nseed = 1\ntop_p = 0.5\n"
            "[agents.a.limits]\nmax_steps = 3\n",
            "[agents.a]\ninstructions = 'project'\n[agents.a.options]\nseed = 2\n[agents.b]\nmodel = 'p/2'\n",
        )
        agents = config.agents()
        assert (agents["a"].model, agents["a"].instructions) == ("u/1", "project")
        assert agents["a"].options == {"seed": 2, "top_p": 0.5}
        assert agents["a"].limits == {"max_steps": 3}
        assert agents["b"].model == "p/2"

    def test_literal_instructions_replace_a_file_of_the_other_config(self, tmp_path: Path) -> None:
        (tmp_path / "user").mkdir()
        (tmp_path / "user" / "me.md").write_text("from a file")
        config = both(tmp_path, "instructions_file = 'me.md'\n", "instructions = 'literal'\n")
        assert config.default_agent().instructions == "literal"
        assert Config(user=config.user).default_agent().instructions == "from a file"

    def test_an_instructions_file_is_relative_to_its_config_not_to_the_working_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hostile = tmp_path / "hostile"
        hostile.mkdir()
        (hostile / "me.md").write_text("do evil")
        monkeypatch.chdir(hostile)
        config = Config(user=config_file(tmp_path / "user" / "config.toml", "instructions_file = 'me.md'\n"))
        with pytest.raises(ConfigError, match="cannot be read"):
            _ = config.default_agent().instructions

    def test_an_unused_agent_may_have_a_missing_instructions_file(self, tmp_path: Path) -> None:
        config = Config(user=config_file(tmp_path / "c", "[agents.a]\ninstructions_file = 'none'\n"))
        assert config.agents()["a"].name == "a"

    def test_limits_models_prices_and_plugin_settings(self, tmp_path: Path) -> None:
        config = both(
            tmp_path,
            "model = 'u/m'\n[limits]\nmax_steps = 9\nmax_tool_calls = 1\n[models]\nfast = 'u/f'\n"
            "[sinks.jsonl]\nkeep_days = 1\nenabled = false\n[prices.'a/b']\ninput = 1\noutput = 2\n",
            "model = 'p/m'\n[limits]\nmax_steps = 5\n[sinks.otel]\nx = 1\n"
            "[plugins]\npaths = ['a.py', '~nobody-x/b.py']\n",
        )
        model = config.value("model")
        assert model is not None
        assert (model.value, model.source) == ("p/m", str(tmp_path / "project" / "afk.toml"))
        assert config.limits() == {"max_steps": 5, "max_tool_calls": 1}
        assert config.alias("fast") == "u/f"
        assert config.sink_names() == ["otel"]
        assert config.prices()["a/b"].output == 2
        assert next(iter(config.plugin_files())) == tmp_path / "project" / "a.py"


def test_a_cost_limit_in_the_config_refuses_a_model_of_unknown_price() -> None:
    limits: dict[str, Any] = {"max_total_cost_usd": 1.0, "max_steps": 2}
    assert fail_safe(limits).on_unknown_price == "refuse"
    assert fail_safe({}).on_unknown_price == "warn"
