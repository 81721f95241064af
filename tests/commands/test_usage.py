"""`afk usage`: what all turns took, as a user meets it."""

from __future__ import annotations

import csv
import io
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from afkcli.commands.moments import moment_of
from afkcli.testing.model_script import Step
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
    found = rows(spent)  # of two days around midnight
    assert sum(turns for _, turns, _, _ in found) == 4
    assert {day for day, *_ in found} <= {
        (datetime.now().astimezone() - timedelta(minutes=ago)).strftime("%Y-%m-%d") for ago in (0, 10)
    }


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
        assert "must be a day (2026-11-27, yesterday), a day and a time, or how long ago" in wrong.err


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
    assert second.split()[:6] == ["openai/unlisted", "1", "12", "0", "7", "?"]
    assert max(map(len, (head, first, second))) <= 100


@pytest.mark.parametrize("columns", [80, 40, 25])
@pytest.mark.parametrize("by", ["day", "model", "agent", "thread", "tag", "budget"])
def test_it_fits_a_terminal_whatever_stands_in_it(spent: Shell, by: str, columns: int) -> None:
    set_config(spent, "[budgets]\nthread_usd = 5000\nday_usd = 5000\n")
    assert spent.in_process("threads", "rename", "a", "a-very-long-name-of-a-thread-about-beans-and-spinach").code == 0
    assert spent.in_process("run", "-t", "a-very-long-name-of-a-thread-about-beans-and-spinach", "hi").code == 0
    code, seen = on_terminal(spent, "usage", "--by", by, NO_COLOR="1", columns=columns)
    head, *lines = [line for line in seen.split("\r\n") if not line.startswith("afk: ") and line]
    assert code == 0
    assert lines
    assert head.split()[-1] in ("COST", "LEFT", "RESETS", "OUTPUT", "CACHED")
    assert "COST" in head or "LEFT" in head
    assert max(map(len, [head, *lines])) <= columns
    if by in ("day", "model", "agent", "tag"):  # the names of the others leave no room for bars
        assert ("█" in seen) == (columns == 80)


def test_on_a_terminal_an_unnamed_thread_has_its_short_name(spent: Shell) -> None:
    assert spent.in_process("run", "hi").code == 0
    [name] = {row["thread"] for row in spent.in_process("usage", "--by", "thread", "--json").events} - {
        "a",
        "b",
        "=1+2",
    }
    code, seen = on_terminal(spent, "usage", "--by", "thread", NO_COLOR="1", columns=40)
    assert code == 0
    assert name not in seen
    assert name[-6:] in {line.split()[0] for line in seen.split("\r\n") if line.strip()}
    assert name in spent.in_process("usage", "--by", "thread").out


def set_config(shell: Shell, text: str) -> None:
    (shell.home / "afk" / "config" / "config.toml").write_text(PRICES + text)


def budgets(shell: Shell, *options: str) -> list[dict[str, Any]]:
    return [row for row in shell.in_process("usage", "--json", *options).events if row["type"] == "budget"]


def test_a_budget_of_the_day_says_what_is_left_and_when_it_resets(spent: Shell) -> None:
    set_config(spent, "[budgets]\nday_usd = 5\n")
    assert spent.in_process("run", "-t", "a", "hi").code == 0
    done = spent.in_process("usage", TZ="UTC")
    [budget] = budgets(spent)
    assert budget["limit_usd"] == 5
    assert 0 < budget["spent_usd"] < 5
    assert budget["left_usd"] == pytest.approx(5 - budget["spent_usd"])
    assert budget["thread_id"] is budget["thread_key"] is None
    resets = datetime.fromisoformat(budget["resets"])
    assert (resets.hour, resets.minute) == (0, 0)
    assert timedelta(0) < resets - datetime.now(UTC) <= timedelta(days=1)
    assert re.search(r"budget day_usd: \$0\.0\d+ of \$5\.00 spent, \$4\.\d\d left; it resets at 20..-..-.. ", done.err)


def test_budgets_of_threads_show_those_that_spent_the_least_left_first(spent: Shell) -> None:
    set_config(spent, "[budgets]\nthread_usd = 5\n")
    assert "budget thread_usd: $5.00 for each thread; no thread has spent any yet" in spent.in_process("usage").err
    assert budgets(spent) == []
    for thread in ("b", "a", "a", "c", "d", "e"):
        assert spent.in_process("run", "-t", thread, "hi").code == 0
    first, *others = budgets(spent, "--by", "budget")
    assert (first["budget"], first["thread_id"], first["limit_usd"], first["resets"]) == ("thread_usd", "a", 5, None)
    assert sorted(row["thread_id"] for row in others) == ["b", "c", "d", "e"]
    assert first["spent_usd"] == pytest.approx(2 * others[0]["spent_usd"])
    said = spent.in_process("usage").err.splitlines()
    assert said[1].startswith("afk: budget thread_usd of a: $")
    assert said[-1] == "afk: 2 more threads have spent some of their budgets; `afk usage --by budget` shows all"
    assert spent.in_process("threads", "rm", "a", "--yes").code == 0
    assert "a" not in {row["thread_id"] for row in budgets(spent)}


def test_budgets_have_rows_of_their_own(spent: Shell) -> None:
    nothing = spent.in_process("usage", "--by", "budget")
    assert (nothing.code, nothing.out) == (0, "")
    assert nothing.err == "afk: no budget is set; set one in the config under [budgets]\n"
    set_config(spent, "[budgets]\nthread_usd = 5\nday_usd = 2\n")
    assert spent.in_process("run", "-t", "a", "hi").code == 0
    day, thread = budgets(spent, "--by", "budget")
    assert (day["budget"], thread["budget"]) == ("day_usd", "thread_usd")
    head, *lines = csv.reader(io.StringIO(spent.in_process("usage", "--by", "budget", "--csv").out))
    assert head == ["budget", "thread", "limit_usd", "spent_usd", "left_usd", "resets"]
    assert [line[:3] for line in lines] == [["day_usd", "", "2"], ["thread_usd", "a", "5"]]
    assert float(lines[0][3]) == day["spent_usd"]
    code, seen = on_terminal(spent, "usage", "--by", "budget", NO_COLOR="1", columns=80)
    assert code == 0
    assert seen.split("\r\n")[0].split() == ["BUDGET", "LIMIT", "SPENT", "LEFT", "RESETS"]
    assert seen.split("\r\n")[2].startswith("thread_usd of a  $5.00")
    wrong = spent.in_process("usage", "--by", "budget", "--since", "1d")
    assert (wrong.code, wrong.out) == (2, "")
    assert "--by budget shows what is left now" in wrong.err


def test_a_look_at_budgets_changes_nothing_in_the_store(spent: Shell) -> None:
    set_config(spent, "[budgets]\nthread_usd = 5\nday_usd = 2\n")
    assert spent.in_process("usage").code == 0
    with closing(sqlite3.connect(spent.home / "afk" / "data" / "threads.db")) as database:
        counters = database.execute("SELECT count(*) FROM Cache WHERE key LIKE 'counter/%'").fetchone()
    assert counters == (0,)


def test_what_is_not_known_has_a_mark(keyed: Shell, server: ModelServer) -> None:
    server.script(Step(text="a", usage=None), Step(text="b"))
    config = keyed.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    set_config(keyed, "")
    assert keyed.in_process("run", "-t", "a", "hi").code == 0
    only = keyed.in_process("usage")
    assert only.out.split()[1:] == ["1", "?", "?", "?", "?"]
    assert only.err == "afk: ≥ and ?: of some turns a count of tokens or a price is not known\n"
    assert keyed.in_process("run", "-t", "a", "hi").code == 0
    both = keyed.in_process("usage").out.split()
    assert both[1:5] == ["2", "≥12", "?", "≥7"]
    assert both[5].startswith("≥$0.0")
    set_config(keyed, PRICES.replace("gpt-5.2-mini", "cheap").replace("000.0", ".0"))
    server.script(Step(text="a"), Step(text="b", usage=None))
    for _ in range(2):
        assert keyed.in_process("run", "-t", "c", "-m", "openai/cheap", "hi").code == 0
    assert keyed.in_process("usage", "--by", "model", "--since", "1d").out.splitlines()[1].split()[5] == "≥$0.00"
    server.script(Step(status=401, body={"error": {"message": "wrong key"}}))
    assert keyed.in_process("run", "-t", "b", "-m", "openai/unlisted", "hi").code == 4
    failed = keyed.in_process("usage", "--by", "thread").out.splitlines()[-1]
    assert failed.split() == ["b", "1", "0", "0", "0", "$0.00"]
    [line] = list(csv.DictReader(io.StringIO(keyed.in_process("usage", "--csv").out)))
    assert (line["turns_of_unknown_cost"], line["input_tokens"]) == ("2", "24")
    assert "input_tokens" in line["unknown_counts"].split()


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
