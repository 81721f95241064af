"""A limit is one row: whatever names limits is derived from the table, or compared with it here."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import click
import pytest

from afkcli.commands.init import template
from afkcli.commands.run import command as run_command
from afkcli.commands.thread_resume import resume as resume_command
from afkcli.config.without_trust import without_trust
from afkcli.core.contract.limits import BUDGETS, CUT_BY, CUT_WHY, LIMITS, FailSafeConfig, Limit
from afkcli.core.run.budgets import Budgets
from tests.docs.pages import REPOSITORY, first_column, sections

IDS = [limit.field for limit in LIMITS]
OPTIONS = [limit for limit in LIMITS if limit.option]

# What the command line, the config and `afk init` make of a row that was not there before.
SCRIPT = """
import json, os, sys
from pathlib import Path
from afkcli.core.contract import limits

limits.LIMITS += (
    limits.Limit(
        kind=int, example="7", option="--max-naps", variable="AFK_MAX_NAPS", help="At most this many naps.",
        field="max_naps", default=3, met="the limit max_naps",
    ),
)
from click.testing import CliRunner
from afkcli.command_group import cli
from afkcli.commands.effective import effective
from afkcli.commands.init import template
from afkcli.config.without_trust import without_trust
from afkcli.core.contract.errors import ConfigError
from afkcli.wiring.assembly import load_setup

def shown():
    rows = effective(load_setup(project=False))
    return [(row.value, row.source) for row in rows if row.key == "limits.max_naps"]

help_ = CliRunner().invoke(cli, ["run", "--help"]).stdout
config = Path(os.environ["AFK_HOME"]) / "config" / "config.toml"
config.parent.mkdir(parents=True)
seen = {"default": shown()}
os.environ["AFK_MAX_NAPS"] = "5"
seen["variable"] = shown()
del os.environ["AFK_MAX_NAPS"]
config.write_text("[limits]\\nmax_naps = 0\\n")
try:
    shown()
except ConfigError as error:
    seen["refused"] = str(error).partition(": ")[2]
config.write_text("[limits]\\nmax_naps = 4\\n")
seen["file"] = shown()[0][0]
allowed, inert = without_trust({"limits": {"max_naps": 4}}, lambda model: True, {})
print(json.dumps({
    **seen,
    "help": " ".join(help_.partition("--max-naps")[2].partition("\\n\\n")[0].split()),
    "init": "#max_naps = 7" in template(),
    "inert": list(inert),
}))
"""


def test_one_row_is_all_that_the_command_line_and_the_config_need(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env={"AFK_HOME": str(tmp_path)}, check=False
    )

    assert done.stderr == ""
    assert json.loads(done.stdout) == {
        "default": [[3, "default"]],
        "variable": [["5", "environment AFK_MAX_NAPS"]],
        "refused": "'limits.max_naps' must be greater than 0 (got 0)",
        "file": 4,
        "help": "N At most this many naps.",
        "init": True,
        "inert": ["limits.max_naps"],
    }


def test_every_number_of_the_fail_safe_has_a_row() -> None:
    hints = get_type_hints(FailSafeConfig)
    numbers = {name for name, hint in hints.items() if {int, float} & {hint, *getattr(hint, "__args__", ())}}

    assert {limit.field for limit in LIMITS} == numbers


def test_every_budget_has_a_row() -> None:
    amounts = {field.name for field in dataclasses.fields(Budgets) if field.name.endswith("_usd")}

    assert {budget.field for budget in BUDGETS} == amounts


@pytest.mark.parametrize("command", [run_command, resume_command], ids=["run", "resume"])
def test_the_options_are_those_of_the_table_in_its_order(command: click.Command) -> None:
    given = [
        (param.opts[0], param.envvar, param.metavar, param.help)
        for param in command.params
        if isinstance(param, click.Option) and param.name in IDS
    ]

    assert given == [(limit.option, limit.variable, limit.metavar, limit.help) for limit in OPTIONS]


@pytest.mark.parametrize("limit", LIMITS, ids=IDS)
def test_afk_init_writes_an_example_of_each_limit(limit: Limit) -> None:
    assert f"\n#{limit.field} = {limit.example}\n" in template()
    assert limit.wrong(float(limit.example)) is None


@pytest.mark.parametrize("limit", LIMITS, ids=IDS)
def test_a_project_without_trust_may_lower_a_limit_and_not_raise_it(limit: Limit) -> None:
    user = {"limits": {limit.field: 5}}

    for value, counts in ((4, True), (5, True), (6, False)):
        allowed, inert = without_trust({"limits": {limit.field: value}}, lambda model: True, user)
        assert allowed["limits"] == ({limit.field: value} if counts else {})
        assert list(inert) == ([] if counts else [f"limits.{limit.field}"])


def test_every_reason_has_words_for_the_user_and_for_the_model() -> None:
    reasons = {"length", *IDS, *(budget.reason for budget in BUDGETS)}

    assert set(CUT_BY) == set(CUT_WHY) == reasons
    assert all(CUT_BY.values())
    assert all(CUT_WHY.values())


class TestPages:
    @pytest.mark.parametrize(
        ("page", "heading", "names"),
        [
            ("reference/config.md", "Limits", IDS),
            ("reference/config.md", "Budgets", [budget.field for budget in BUDGETS]),
            ("reference/config.md", "Environment variables", [limit.variable for limit in OPTIONS]),
            ("reference/cli.md", "afk run", [limit.option for limit in OPTIONS]),
            ("reference/cli.md", "afk threads resume", [limit.option for limit in OPTIONS]),
            ("reference/python.md", "FailSafeConfig", IDS),
        ],
    )
    def test_a_page_names_every_limit(self, page: str, heading: str, names: list[str]) -> None:
        told = {name for row in first_column(sections(REPOSITORY / "docs" / page)[heading]) for name in row}

        assert set(names) <= told

    def test_the_guide_has_a_row_for_every_limit(self) -> None:
        guide = sections(REPOSITORY / "docs" / "how-to" / "limits.md")["Limits of a run"]
        rows = re.findall(r"^\| (?:`(--[\w-]+)`)? ?\| `(\w+)` \|", guide, flags=re.MULTILINE)

        assert sorted(rows) == sorted((limit.option or "", limit.field) for limit in LIMITS)

    def test_the_table_of_observed_limits_has_a_case_for_every_limit(self) -> None:
        cases = (REPOSITORY / "tests" / "limits" / "cases.py").read_text(encoding="utf-8")

        assert set(IDS) <= set(re.findall(r'limit="(\w+)"', cases))
