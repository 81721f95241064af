"""`afk usage`: what all turns took, as a user meets it."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest

from afkcli.commands.moments import moment_of
from afkcli.testing.model_server import ModelServer
from tests.commands.conftest import on_terminal
from tests.e2e.shell import Shell

PRICES = '[prices."openai/gpt-5.2-mini"]\ninput = 1000.0\noutput = 2000.0\n'


@pytest.fixture
def spent(keyed: Shell) -> Shell:
    """A shell with three turns of a known price in two threads, and one of a model without a price."""
    config = keyed.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(PRICES)
    for thread in ("a", "a", "b"):
        assert keyed.in_process("run", "-t", thread, "hi").code == 0
    assert keyed.in_process("run", "-t", "b", "-m", "openai/unlisted", "hi").code == 0
    keyed.in_process("threads", "tag", "a", "work")
    return keyed


def rows(shell: Shell, *options: str) -> list[tuple[str, int, float, int]]:
    by = options[options.index("--by") + 1] if "--by" in options else "day"
    found = [row for row in shell.in_process("usage", "--json", *options).events if row["type"] == "usage"]
    return [(row[by], row["turns"], row["total_cost_usd"], row["turns_of_unknown_cost"]) for row in found]


def test_sums_by_thread_model_agent_and_tag(spent: Shell) -> None:
    one = spent.in_process("threads", "--json", "-n", "1", "--search", "hi").events
    assert one
    (a, turns_a, cost_a, unknown_a), (b, turns_b, cost_b, unknown_b) = rows(spent, "--by", "thread")
    assert (a, turns_a, unknown_a) == ("a", 2, 0)
    assert (b, turns_b, unknown_b) == ("b", 2, 1)
    assert cost_a > cost_b > 0
    assert [name for name, *_ in rows(spent, "--by", "model")] == ["openai/gpt-5.2-mini", "openai/unlisted"]
    assert [(name, turns) for name, turns, *_ in rows(spent, "--by", "agent")] == [("afk", 4)]
    assert {name: turns for name, turns, *_ in rows(spent, "--by", "tag")} == {"work": 2, "": 2}


def test_days_are_those_of_the_users_place(spent: Shell) -> None:
    [(day, turns, _, _)] = rows(spent)
    assert turns == 4
    assert day in {(datetime.now().astimezone() - timedelta(minutes=ago)).strftime("%Y-%m-%d") for ago in (0, 10)}


def test_a_fork_and_an_undo_change_nothing(spent: Shell) -> None:
    before = rows(spent, "--by", "model")
    spent.in_process("threads", "fork", "a", "copy")
    spent.in_process("threads", "undo", "a")
    assert rows(spent, "--by", "model") == before
    assert [(name, turns) for name, turns, *_ in rows(spent, "--by", "thread")] == [("a", 2), ("b", 2)]


def test_since_and_until_choose_turns(spent: Shell) -> None:
    assert rows(spent, "--since", "1d")
    assert rows(spent, "--until", "2020-01-01") == []
    assert spent.in_process("usage", "--since", "2099-01-01").err == "afk: no turn matches\n"
    for odd in ("soon", "0001-01-01", "90000w", "2026-13-01"):
        wrong = spent.in_process("usage", "--since", odd)
        assert (wrong.code, wrong.out) == (2, "")
        assert "must be a day (2026-11-27), a day and a time, or how long ago" in wrong.err


def test_in_csv_it_has_a_head_and_no_formula(spent: Shell) -> None:
    spent.in_process("threads", "rename", "a", "=1+2")
    done = spent.in_process("usage", "--csv", "--by", "thread")
    head, *lines = csv.reader(io.StringIO(done.out))
    assert head[:2] == ["thread", "turns"]
    assert [line[0] for line in lines] == ["'=1+2", "b"]


def test_on_a_terminal_it_draws_bars_that_fit(spent: Shell) -> None:
    code, seen = on_terminal(spent, "usage", "--by", "model", NO_COLOR="1", columns=100)
    head, first, second = seen.split("\r\n")[:3]
    assert code == 0
    assert head.split() == ["MODEL", "TURNS", "INPUT", "CACHED", "OUTPUT", "COST"]
    assert "█" in first
    assert "unknown" in second
    assert max(map(len, (head, first, second))) <= 100


def test_a_budget_of_the_day_says_what_is_left(spent: Shell) -> None:
    config = spent.home / "afk" / "config" / "config.toml"
    config.write_text(PRICES + "[budgets]\nday_usd = 5\n")
    assert spent.in_process("run", "-t", "a", "hi").code == 0
    done = spent.in_process("usage")
    assert "budget day_usd: $" in done.err
    [budget] = [row for row in spent.in_process("usage", "--json").events if row["type"] == "budget"]
    assert budget["limit_usd"] == 5
    assert 0 < budget["spent_usd"] < 5
    assert budget["left_usd"] == pytest.approx(5 - budget["spent_usd"])


def test_a_store_without_turns_says_so(shell: Shell, server: ModelServer) -> None:
    done = shell.in_process("usage")
    assert (done.code, done.out, done.err) == (0, "", "afk: there are no turns yet\n")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20 14:30", datetime(2026, 11, 20, 14, 30, tzinfo=UTC)),
        ("2026-11-20T14:30:00+02:00", datetime(2026, 11, 20, 12, 30, tzinfo=UTC)),
        ("today", datetime(2026, 11, 27, tzinfo=UTC)),
        ("Yesterday", datetime(2026, 11, 26, tzinfo=UTC)),
        ("90min", datetime(2026, 11, 27, 10, 30, tzinfo=UTC)),
        ("12h", datetime(2026, 11, 27, 0, 0, tzinfo=UTC)),
        ("3 d", datetime(2026, 11, 24, 12, 0, tzinfo=UTC)),
        ("2w", datetime(2026, 11, 13, 12, 0, tzinfo=UTC)),
        ("soon", None),
        ("", None),
        ("999999w", None),
        ("90000w", datetime(302, 1, 10, 12, tzinfo=UTC)),
        ("2026-11-20T14:30:00Z", datetime(2026, 11, 20, 14, 30, tzinfo=UTC)),
        ("0001-01-01T00:00:00+23:00", None),
    ],
)
def test_moments(text: str, moment: datetime | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    assert moment_of(text, datetime(2026, 11, 27, 12, tzinfo=UTC)) == moment
