"""What a wrong call is told: suggestions that are near, and numbers in words."""

from __future__ import annotations

import pytest

from tests.commands.conftest import keyed, server, shell
from tests.e2e.shell import Shell

__all__ = ["keyed", "server", "shell"]


def refusal(shell: Shell, *arguments: str, **env: str) -> str:
    """Return the only line of a call that is refused."""
    done = shell.in_process(*arguments, **env)
    assert (done.code, done.out) == (2, ""), done.err
    (line,) = done.err.splitlines()
    return line


@pytest.mark.parametrize(
    "arguments",
    [
        ("threads", "--during", "1d"),
        ("run", "--all"),
        ("run", "--silent"),
        ("events", "tail", "--until", "x"),
        ("plugins", "--version"),
        ("frobnicate",),
        ("threads", "move"),
    ],
)
def test_nothing_is_suggested_that_is_not_near(shell: Shell, arguments: tuple[str, ...]) -> None:
    line = refusal(shell, *arguments)
    assert line.startswith("afk: No such ")
    assert "ean" not in line


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("threads", "--jsn"), "--json"),
        (("run", "--modl", "x"), "--model"),
        (("run", "--timout", "3"), "--timeout"),
        (("run", "--max_steps", "3"), "--max-steps"),
        (("events", "tail", "--folow"), "--follow"),
    ],
)
def test_an_option_that_is_near_is_suggested(shell: Shell, arguments: tuple[str, ...], meant: str) -> None:
    assert f"; did you mean '{meant}'?; see `afk " in refusal(shell, *arguments)


@pytest.mark.parametrize("name", ["zzz", "jsno", "sin"])
def test_no_key_and_no_thread_is_suggested_that_is_not_near(keyed: Shell, name: str) -> None:
    assert keyed.in_process("run", "-t", "rain", "hi").code == 0
    assert "did you mean" not in refusal(keyed, "threads", "show", name)
    config = keyed.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(f"[sinks.jsonl]\n{name} = 1\n")
    assert "did you mean" not in refusal(keyed, "run", "hi")


@pytest.mark.parametrize("value", ["x", "0", "-1", "1.5", "", "9" * 5000])
def test_a_whole_number_is_described_in_words(shell: Shell, value: str) -> None:
    for arguments in (("run", "--max-steps", value, "hi"), ("threads", "--limit", value)):
        if len(value) > 100 and arguments[0] == "threads":
            continue
        line = refusal(shell, *arguments)
        assert "must be a whole number of at least 1 (got " in line
        assert "range" not in line
        assert len(line) < 200
    line = refusal(shell, "run", "--max-tool-calls", "x", "hi")
    assert line.startswith("afk: Invalid value for '--max-tool-calls': must be a whole number of at least 0 (got 'x')")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--max-cost", "must be a number of at least 0"),
        ("--max-turn-mb", "must be a number greater than 0"),
    ],
)
@pytest.mark.parametrize("value", ["x", "1h", "1,5", ""])
def test_another_number_is_described_in_words(shell: Shell, option: str, words: str, value: str) -> None:
    line = refusal(shell, "run", option, value, "hi")
    assert line.startswith(f"afk: Invalid value for '{option}': {words} (got {value!r})")


@pytest.mark.parametrize("option", ["--timeout", "--busy-timeout"])
@pytest.mark.parametrize("value", ["x", "5 parsecs", "1,5", "", "-5m"])
def test_a_length_of_time_is_described_in_words(shell: Shell, option: str, value: str) -> None:
    line = refusal(shell, "run", option, value, "hi")
    assert line.startswith(f"afk: Invalid value for '{option}': must be seconds, or 90s, 5m, 1h (got {value!r})")


@pytest.mark.parametrize("value", ["0", "-1", "0m", "nan", "inf"])
def test_a_length_of_time_that_is_none_is_refused(shell: Shell, value: str) -> None:
    assert "must be greater than 0" in refusal(shell, "run", "--timeout", value, "hi")


@pytest.mark.parametrize("value", ["5m", "1h", "90s", "300", "1h30m"])
def test_a_length_of_time_has_units(keyed: Shell, value: str) -> None:
    assert keyed.in_process("run", "--timeout", value, "--busy-timeout", value, "hi").code == 0
    assert keyed.in_process("run", "hi", AFK_TIMEOUT=value, AFK_BUSY_TIMEOUT=value).code == 0
    assert keyed.in_process("threads", "--since", value if value != "300" else "300s").code == 0


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        ('busy_timeout = "5m"\n', "300"),
        ('retry_delay = "500ms"\n', "0.5"),
        ('[limits]\nmax_wall_time_s = "1h"\n', "3600"),
        ('[agents.a.limits]\nmax_wall_time_s = "1h30m"\n', "5400"),
        ('[approvals]\ntimeout = "2 min"\n', "120"),
    ],
)
def test_a_length_of_time_in_the_config_has_units(shell: Shell, config: str, shown: str) -> None:
    path = shell.home / "afk" / "config" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(config)
    done = shell.in_process("config", "show")
    assert (done.code, done.err) == (0, "")
    assert f" {shown}" in done.out
    path.write_text(config.replace(' = "', ' = "x'))
    assert "must be seconds, or 90s, 5m, 1h (in quotes if it has a unit)" in refusal(shell, "config", "show")


@pytest.mark.parametrize(
    "variable", ["AFK_MAX_STEPS", "AFK_TIMEOUT", "AFK_MAX_TURN_MB", "AFK_BUSY_TIMEOUT", "AFK_BUSY", "AFK_APPROVALS"]
)
def test_a_wrong_value_of_a_variable_is_named_by_the_variable(shell: Shell, variable: str) -> None:
    line = refusal(shell, "run", "hi", **{variable: "x"})
    assert line.startswith(f"afk: Invalid value for '{variable}': ")
    assert "--busy" not in line
    assert "--max" not in line
