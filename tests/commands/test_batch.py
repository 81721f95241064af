"""`afk batch list|status|results|retry|cancel|rm`, on batches that an engine keeps."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from afkcli.batch.local_engine import LocalEngine
from afkcli.core.contract.engine import BatchLimits, Engine, Outcome, PromptState, QueuedPrompt, Reservation
from tests.e2e.shell import Shell

DONE, FAILED, QUEUED = PromptState.DONE, PromptState.FAILED, PromptState.QUEUED
ANSWER = {
    "text": "4",
    "model": "openai/m",
    "usage": {"input_tokens": 3, "output_tokens": 1},
    "cost_usd": 0.25,
    "steps": 1,
}
ERROR = {"text": "", "error": {"kind": "rate_limit", "message": "slow down", "status": 429}, "cost_usd": 0.0}


def keeping(shell: Shell, work: Callable[[Engine], Coroutine[Any, Any, None]]) -> None:
    """Do something with the engine of a shell's home."""

    async def run() -> None:
        engine = LocalEngine(shell.home / "afk" / "data" / "batches")
        try:
            await work(engine)
        finally:
            await engine.aclose()

    asyncio.run(run())


async def fill(engine: Engine, name: str, results: Path, states: dict[str, PromptState], /, **settings: str) -> None:
    """Make a batch whose prompts are in these states."""
    kept = {"results": str(results), "prompts": str(results.parent / "prompts.jsonl"), **settings}
    await engine.create(name, kept, BatchLimits())
    queued = [QueuedPrompt(id=id_, index=at, digest="d", request={"message": id_}) for at, id_ in enumerate(states)]
    await engine.submit(name, queued)
    worker = f"worker-{name.rpartition('/')[2]}"
    await engine.join(worker)
    asked = sum(state is not QUEUED for state in states.values())
    claimed = (await engine.claim(name, worker, asked)).prompts if asked else ()
    for prompt in claimed:
        state = states[prompt.id]
        await engine.reserve(name, [Reservation(id=prompt.id, claim=prompt.claim, model="openai/m")])
        result = ANSWER if state is DONE else ERROR
        outcome = Outcome(id=prompt.id, claim=prompt.claim, state=state, result=result, cost_usd=result["cost_usd"])
        await engine.settle(name, [outcome])


@pytest.fixture
def kept(keyed: Shell) -> Shell:
    """A shell with the batch `labels.jsonl` of its folder: two prompts done, one failed, one queued."""
    place = keyed.folder.resolve() / "labels.jsonl"
    states = {"a": DONE, "b": FAILED, "c": DONE, "d": QUEUED}
    keeping(keyed, lambda engine: fill(engine, str(place), place, states))
    return keyed


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


class TestList:
    def test_of_no_batch_says_how_to_start_one(self, keyed: Shell) -> None:
        done = keyed.in_process("batch", "list")
        assert (done.code, done.out) == (0, "")
        assert "there are no batches yet; `afk batch run PROMPTS -o RESULTS` starts one" in done.err

    def test_shows_how_far_each_has_come(self, kept: Shell) -> None:
        keeping(kept, lambda engine: fill(engine, "nightly", kept.folder / "n.jsonl", {"x": DONE}))
        done = kept.in_process("batch", "list")
        first, second = done.out.splitlines()
        assert first.split() == ["nightly", "now", "1/1", "0", "$0.25", "ended"]
        assert second.split() == ["labels.jsonl", "now", "3/4", "1", "$0.50", "1", "queued"]

    def test_is_there_for_programs(self, kept: Shell) -> None:
        (form,) = kept.in_process("batch", "list", "--json").events
        assert (form["type"], form["batch"]) == ("batch", str(kept.folder.resolve() / "labels.jsonl"))
        assert {**form["counts"], "sent": 0} == {
            "sent": 0,
            "queued": 1,
            "running": 0,
            "done": 2,
            "failed": 1,
            "parked": 0,
            "cancelled": 0,
        }
        assert (form["cost_usd"], form["requests"]) == (0.5, 3)


class TestName:
    @pytest.mark.parametrize("name", ["labels.jsonl", "./labels.jsonl", "labels"])
    def test_of_a_batch_is_its_file_in_any_form(self, kept: Shell, name: str) -> None:
        assert kept.in_process("batch", "status", name).out.startswith("batch     labels.jsonl\n")

    def test_of_a_link_to_its_file_is_its_name(self, kept: Shell) -> None:
        (kept.folder / "labels.jsonl").touch()
        (kept.folder / "link").symlink_to("labels.jsonl")
        assert kept.in_process("batch", "status", "link").code == 0

    def test_that_was_given_is_its_name_and_so_is_its_file(self, kept: Shell) -> None:
        keeping(kept, lambda engine: fill(engine, "nightly", kept.folder.resolve() / "n.jsonl", {"x": DONE}))
        for name in ("nightly", "n.jsonl"):
            assert kept.in_process("batch", "status", name).out.startswith("batch     nightly\n")

    def test_that_is_unknown_gives_a_near_one(self, kept: Shell) -> None:
        done = kept.in_process("batch", "status", "lables")
        assert done.code == 2
        assert "there is no batch 'lables'; did you mean 'labels'?" in done.err

    def test_that_several_have_is_refused(self, kept: Shell) -> None:
        other = kept.folder.resolve() / "other" / "labels.jsonl"
        keeping(kept, lambda engine: fill(engine, str(other), other, {"x": DONE}))
        done = kept.in_process("batch", "status", "labels")
        assert (done.code, "'labels' may be 2 batches" in done.err) == (2, True)

    def test_is_completed_by_the_tab_key(self, kept: Shell) -> None:
        done = kept.in_process(_AFK_COMPLETE="bash_complete", COMP_WORDS="afk batch status la", COMP_CWORD="3")
        assert "labels.jsonl" in done.out


class TestStatus:
    def test_says_all_of_a_batch_and_what_comes_next(self, kept: Shell) -> None:
        place = kept.folder.resolve()
        lines = dict(line.split(None, 1) for line in kept.in_process("batch", "status").out.splitlines())
        assert lines["prompts"] == "4: 1 queued, 2 done, 1 failed"
        assert (lines["state"], lines["cost"]) == ("1 queued", "$0.50")
        assert lines["next"] == f"afk batch run {place}/prompts.jsonl -o {place}/labels.jsonl"

    def test_of_a_batch_that_failed_says_how_to_retry(self, keyed: Shell) -> None:
        place = keyed.folder.resolve() / "x.jsonl"
        keeping(keyed, lambda engine: fill(engine, str(place), place, {"a": FAILED}))
        assert "next      afk batch retry x.jsonl\n" in keyed.in_process("batch", "status").out

    def test_of_a_batch_of_a_plugin_names_its_engine(self, keyed: Shell) -> None:
        place = keyed.folder.resolve() / "x.jsonl"
        keeping(keyed, lambda engine: fill(engine, str(place), place, {"a": FAILED}, engine="queue"))
        assert "next      afk batch retry x.jsonl --engine queue\n" in keyed.in_process("batch", "status").out

    @pytest.mark.parametrize(
        ("costs", "said"),
        [((0.25, 0.0), "$0.25"), ((0.25, None), "$0.25; unknown for 1 prompt"), ((None,), "unknown for 1 prompt")],
    )
    def test_says_what_is_not_known_of_the_cost(self, keyed: Shell, costs: tuple[float | None, ...], said: str) -> None:
        async def filled(engine: Engine) -> None:
            await engine.create("b", {}, BatchLimits())
            queued = [QueuedPrompt(id=f"p{at}", index=at, digest="d", request={}) for at in range(len(costs))]
            await engine.submit("b", queued)
            await engine.join("w")
            for prompt, cost in zip((await engine.claim("b", "w", 9)).prompts, costs, strict=True):
                await engine.reserve("b", [Reservation(id=prompt.id, claim=prompt.claim, model="openai/m")])
                await engine.settle("b", [Outcome(id=prompt.id, claim=prompt.claim, state=DONE, cost_usd=cost)])

        keeping(keyed, filled)
        assert f"cost      {said}\n" in keyed.in_process("batch", "status", "b").out

    def test_watched_to_its_end_is_shown(self, keyed: Shell) -> None:
        keeping(keyed, lambda engine: fill(engine, "b", keyed.folder / "x.jsonl", {"a": DONE}))
        assert "state     ended" in keyed.in_process("batch", "status", "b", "--watch").out


class TestResults:
    def test_are_lines_in_the_order_of_the_prompts(self, kept: Shell) -> None:
        schema = json.loads(kept.in_process("batch", "results", "--schema").out)
        found = rows(kept.in_process("batch", "results", "labels").out)
        for row in found:
            jsonschema.Draft202012Validator(schema).validate(row)
        assert [(row["id"], row["state"], row["attempts"]) for row in found] == [
            ("a", "done", 1),
            ("b", "failed", 1),
            ("c", "done", 1),
        ]
        assert found[1]["error"] == ERROR["error"]

    def test_of_some_prompts_and_states(self, kept: Shell) -> None:
        assert [row["id"] for row in rows(kept.in_process("batch", "results", "labels", "c", "a").out)] == ["a", "c"]
        assert [row["id"] for row in rows(kept.in_process("batch", "results", "--state", "failed").out)] == ["b"]
        done = kept.in_process("batch", "results", "labels", "a", "nonsense")
        assert (done.code, "there is no prompt 'nonsense' in the batch" in done.err) == (2, True)

    def test_are_a_table_for_a_spreadsheet(self, kept: Shell) -> None:
        table = list(csv.DictReader(io.StringIO(kept.in_process("batch", "results", "labels", "--csv").out)))
        assert [(row["id"], row["text"], row["cost_usd"], row["error_kind"]) for row in table] == [
            ("a", "4", "0.25", ""),
            ("b", "", "0.0", "rate_limit"),
            ("c", "4", "0.25", ""),
        ]

    def test_that_are_not_there_yet_are_said(self, keyed: Shell) -> None:
        keeping(keyed, lambda engine: fill(engine, "b", keyed.folder / "x.jsonl", {"a": QUEUED}))
        done = keyed.in_process("batch", "results")
        assert (done.code, done.out) == (0, "")
        assert "no prompt of the batch has a result" in done.err


class TestRetry:
    def test_queues_those_that_failed(self, kept: Shell) -> None:
        done = kept.in_process("batch", "retry", "labels")
        assert "1 prompt queued; ask them with: afk batch run " in done.err
        assert "4: 2 queued, 2 done" in kept.in_process("batch", "status").out

    def test_queues_those_that_are_named(self, kept: Shell) -> None:
        done = kept.in_process("batch", "retry", "labels", "a", "--done", "--json")
        assert done.events == [
            {"v": 1, "type": "queued", "batch": str(kept.folder.resolve() / "labels.jsonl"), "prompts": 1}
        ]

    def test_of_an_unknown_prompt_is_refused(self, kept: Shell) -> None:
        done = kept.in_process("batch", "retry", "labels", "a", "zz")
        assert (done.code, "the batch has no prompt 'zz'" in done.err) == (2, True)


class TestCancel:
    def test_takes_out_what_is_not_asked_yet(self, kept: Shell) -> None:
        assert "1 prompt cancelled" in kept.in_process("batch", "cancel", "labels").err
        (row,) = rows(kept.in_process("batch", "results", "labels", "d").out)
        assert (row["state"], row["error"]["kind"]) == ("cancelled", "cancelled")
        assert "1 prompt queued" in kept.in_process("batch", "retry", "labels", "--cancelled").err

    def test_of_one_that_was_asked_changes_nothing(self, kept: Shell) -> None:
        assert "0 prompts cancelled" in kept.in_process("batch", "cancel", "labels", "a").err


class TestRemove:
    def test_deletes_the_batch_and_leaves_its_file(self, kept: Shell) -> None:
        (kept.folder / "labels.jsonl").write_text("{}\n")
        done = kept.in_process("batch", "rm", "labels", "--yes")
        assert f"its results are still in {kept.folder.resolve()}/labels.jsonl" in done.err
        assert (kept.folder / "labels.jsonl").exists()
        assert kept.in_process("batch", "list", "--json").out == ""

    def test_asks_first(self, kept: Shell) -> None:
        done = kept.in_process("batch", "rm", "labels")
        assert (done.code, "needs a terminal; use --yes" in done.err) == (2, True)
        assert kept.in_process("batch", "status", "labels").code == 0
