"""`afk batch run --via provider`: batches of the providers answer the prompts, once, whatever stops it in between."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from typing import Any

import pytest

from afkcli.testing.batch_server import BatchService
from afkcli.testing.model_script import ScriptedUsage, Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import LIMIT, Finished, Shell

VIA = ("batch", "run", "prompts.jsonl", "-o", "results.jsonl", "--via", "provider", "--poll", "0.02")
NUMBER = 5


@pytest.fixture(params=["openai", "anthropic"])
def asked(request: pytest.FixtureRequest, shell: Shell, server: ModelServer) -> Shell:
    """A shell with five prompts for a model of a provider that has batches."""
    shell.env.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-canary-0123456789")
    shell.env.update(ANTHROPIC_BASE_URL=server.base_url, ANTHROPIC_API_KEY="sk-canary-0123456789")
    model = {"openai": "openai/gpt-5.2-mini", "anthropic": "anthropic/claude-sonnet-5-5"}[request.param]
    shell.env["AFK_MODEL"] = model
    write_prompts(shell)
    return shell


@pytest.fixture
def openai(keyed: Shell) -> Shell:
    """A shell with five prompts for a model of OpenAI's API."""
    write_prompts(keyed)
    return keyed


def write_prompts(shell: Shell, number: int = NUMBER, **more: Any) -> None:
    lines = [json.dumps({"id": f"p{n}", "message": f"ask {n}", **more}) for n in range(number)]
    (shell.folder / "prompts.jsonl").write_text("".join(f"{line}\n" for line in lines))


def rows(shell: Shell) -> dict[str, dict[str, Any]]:
    found = [json.loads(line) for line in (shell.folder / "results.jsonl").read_text().splitlines()]
    by_id = {row["id"]: row for row in found}
    assert len(by_id) == len(found), "a prompt has two rows"
    return by_id


def states(shell: Shell) -> list[str]:
    found = rows(shell)
    return [found[f"p{n}"]["state"] for n in range(len(found))]


def texts(batches: BatchService) -> Counter[str]:
    """Return how often each prompt was answered, by its text: so often it is paid."""
    bodies = {id_: body for batch in batches.made.values() for id_, body in batch.requests.items()}
    asked = (json.dumps(bodies[id_]["messages"][-1]["content"]) for id_ in batches.worked_on)
    return Counter(text.partition("ask ")[2][0] for text in asked)


def prices(shell: Shell) -> None:
    config = shell.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    names = ("openai/gpt-5.2-mini", "anthropic/claude-sonnet-5-5")
    config.write_text("".join(f'[prices."{name}"]\ninput = 10.0\noutput = 100.0\n' for name in names))


# -- a whole batch -----------------------------------------------------------------------------------------------------


def test_one_batch_answers_all_prompts_and_the_same_command_sends_nothing_again(
    asked: Shell, server: ModelServer
) -> None:
    first = asked.afk(*VIA)
    assert first.code == 0, first.err
    assert first.out == ""
    assert "5 done; the results are in results.jsonl" in first.err
    found = rows(asked)
    assert [found[f"p{n}"]["text"].partition(": ")[2] for n in range(NUMBER)] == [f"ask {n}" for n in range(NUMBER)]
    assert all(row["usage"]["input_tokens"] == 12 and row["attempts"] == row["steps"] == 1 for row in found.values())
    assert len(server.batches.made) == 1
    assert server.requests == []
    assert not any(name.startswith("file_") for name in server.batches.files), "the upload is left at the provider"
    assert list((asked.home / "afk").rglob("*afk-*.jsonl")) == []
    assert [event["type"] for event in asked.log()] == ["completed"] * NUMBER

    before, calls = (asked.folder / "results.jsonl").read_bytes(), len(server.batches.calls)
    again = asked.afk(*VIA)
    assert (again.code, len(server.batches.calls)) == (0, calls)
    assert (asked.folder / "results.jsonl").read_bytes() == before


def test_the_cost_is_that_of_the_batch(asked: Shell, server: ModelServer) -> None:
    prices(asked)
    usage = ScriptedUsage(input_tokens=1000, output_tokens=100)
    server.batches.script(step=lambda body: Step(text="x", usage=usage))
    assert asked.afk(*VIA).code == 0
    assert [row["cost_usd"] for row in rows(asked).values()] == [pytest.approx((0.01 + 0.01) / 2)] * NUMBER


def test_a_dry_run_estimates_at_the_price_of_the_batch_and_sends_nothing(openai: Shell, server: ModelServer) -> None:
    prices(openai)
    write_prompts(openai, options={"max_output_tokens": 100})
    usual, batch = (json.loads(openai.afk(*run, "--dry-run", "--json").out)["most_usd"] for run in (VIA[:5], VIA))
    assert batch == pytest.approx(usual / 2)
    assert server.batches.calls == []


def test_what_a_prompt_says_is_in_its_request(openai: Shell, server: ModelServer) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    write_prompts(openai, 2, instructions="be kind", options={"temperature": 0.5}, schema=schema)
    server.batches.script(step=lambda body: Step(text='{"n": 7}'))
    assert openai.afk(*VIA).code == 0
    [batch] = server.batches.made.values()
    body = next(iter(batch.requests.values()))
    assert "be kind" in body["messages"][0]["content"]
    assert body["temperature"] == 0.5
    assert body["response_format"]["json_schema"]["schema"]["properties"] == schema["properties"]
    assert [row["output"] for row in rows(openai).values()] == [{"n": 7}] * 2


def test_an_answer_that_does_not_fit_its_schema_fails_and_is_not_asked_again(
    openai: Shell, server: ModelServer
) -> None:
    write_prompts(openai, 2, schema={"type": "object", "required": ["n"]})
    done = openai.afk(*VIA)
    assert done.code == 4
    for row in rows(openai).values():
        assert (row["state"], row["error"]["kind"]) == ("failed", "invalid_output")
        assert "does not fit its schema" in row["error"]["message"]
    assert len(server.batches.worked_on) == 2


def test_prompts_of_two_models_go_into_two_batches(openai: Shell, server: ModelServer) -> None:
    lines = [{"id": f"p{n}", "message": f"ask {n}", "model": f"openai/gpt-5.2-{n % 2}"} for n in range(4)]
    (openai.folder / "prompts.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert openai.afk(*VIA).code == 0
    assert sorted(len(batch.requests) for batch in server.batches.made.values()) == [2, 2]
    assert {row["model"] for row in rows(openai).values()} == {"openai/gpt-5.2-0", "openai/gpt-5.2-1"}


def test_prompts_are_cut_into_batches_by_requests_and_by_bytes(
    openai: Shell, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from afk_provider_openai.batches import LIMITS, Batches

    from afkcli.core.contract.structs import replace

    monkeypatch.setattr(Batches, "limits", replace(LIMITS, max_requests=2))
    assert openai.in_process(*VIA).code == 0
    assert sorted(len(batch.requests) for batch in server.batches.made.values()) == [1, 2, 2]
    server.batches.made.clear()
    monkeypatch.setattr(Batches, "limits", replace(LIMITS, max_bytes=400))
    assert openai.in_process(*VIA, "-o", "by-bytes.jsonl").code == 0
    assert sorted(len(batch.requests) for batch in server.batches.made.values()) == [1, 2, 2]


# -- what a provider says of single prompts ----------------------------------------------------------------------------


def test_each_prompt_has_a_row_that_says_what_became_of_it(asked: Shell, server: ModelServer) -> None:
    server.batches.script(outcome=("answered", "failed", "expired", "cancelled", "missing"))
    done = asked.afk(*VIA)
    assert done.code == 4
    assert states(asked) == ["done", "failed", "failed", "cancelled", "parked"]
    found = rows(asked)
    errors = [(found[f"p{n}"]["error"] or {}) for n in range(NUMBER)]
    assert [error.get("kind") for error in errors] == [None, "bad_request", "expired", "cancelled", "parked"]
    assert "mark-refused" in errors[1]["message"]
    assert "no result" in errors[4]["message"]
    assert [found[f"p{n}"]["cost_usd"] for n in (1, 2, 3)] == [0.0] * 3

    again = asked.afk(*VIA)
    assert (again.code, len(server.batches.made)) == (4, 1), "nothing is sent again by itself"
    server.batches.script()
    assert asked.afk(*VIA, "--retry-parked").code == 4
    assert states(asked) == ["done", "failed", "failed", "cancelled", "done"]


def test_results_may_come_in_any_order_and_twice(asked: Shell, server: ModelServer) -> None:
    server.batches.script(backwards=True, twice=True, unended=True)
    assert asked.afk(*VIA).code == 0
    found = rows(asked)
    assert [found[f"p{n}"]["text"][-5:] for n in range(NUMBER)] == [f"ask {n}" for n in range(NUMBER)]


def test_it_waits_until_the_results_are_there(asked: Shell, server: ModelServer) -> None:
    server.batches.script(hidden=2, late=2, cut=1, polls=4, says=("validating", "", "a_word_of_next_year"))
    done = asked.afk(*VIA)
    assert done.code == 0, done.err
    assert states(asked) == ["done"] * NUMBER
    assert max(texts(server.batches).values()) == 1


# -- what a provider says of a whole batch -----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
def test_a_batch_that_is_not_taken_now_is_sent_again_later(openai: Shell, server: ModelServer, status: int) -> None:
    busy = Step(status=status, headers={"Retry-After": "0.01"}, body={"error": {"message": "mark-busy"}})
    server.batches.script(create=[busy, busy])
    done = openai.afk(*VIA)
    if status == 429:  # it is sure that nothing was made
        assert done.code == 0, done.err
        assert "mark-busy" in done.err
        assert states(openai) == ["done"] * NUMBER
        assert len(server.batches.made) == 1
    else:
        assert states(openai) == ["parked"] * NUMBER
        assert server.batches.made == {}


def test_a_batch_that_was_refused_for_the_queue_is_sent_again_in_smaller_ones(
    openai: Shell, server: ModelServer
) -> None:
    server.batches.script(refusals=["token_limit_exceeded", "token_limit_exceeded"])
    done = openai.afk(*VIA)
    assert done.code == 0, done.err
    assert "mark-token_limit_exceeded" in done.err
    assert states(openai) == ["done"] * NUMBER
    assert set(texts(server.batches).values()) == {1}
    assert [len(batch.requests) for batch in server.batches.made.values()][:2] == [5, 2]


def test_a_batch_that_was_refused_for_what_it_is_fails_all_its_prompts(openai: Shell, server: ModelServer) -> None:
    server.batches.script(refusals=["invalid_json_line"])
    assert openai.afk(*VIA).code == 4
    assert states(openai) == ["failed"] * NUMBER
    assert all("mark-invalid_json_line" in row["error"]["message"] for row in rows(openai).values())
    assert all(row["cost_usd"] == 0.0 for row in rows(openai).values())


@pytest.mark.parametrize("status", [401, 400])
def test_a_batch_that_is_never_taken_stops_with_everything_kept(
    openai: Shell, server: ModelServer, status: int
) -> None:
    server.batches.script(create=[Step(status=status, body={"error": {"message": "mark-why"}})])
    done = openai.afk(*VIA)
    assert done.code == 4
    assert "mark-why" in done.err
    assert "sk-canary" not in done.err
    assert rows(openai) == {}
    assert openai.afk(*VIA).code == 0
    assert states(openai) == ["done"] * NUMBER


def test_a_batch_that_is_too_large_for_the_server_is_cut_in_two(openai: Shell, server: ModelServer) -> None:
    server.batches.script(create=[Step(status=413, body={"error": {"message": "too large"}})])
    done = openai.afk(*VIA)
    assert done.code == 0, done.err
    assert sorted(len(batch.requests) for batch in server.batches.made.values()) == [1, 2, 2]


def test_a_batch_whose_answer_was_lost_is_found_and_paid_once(asked: Shell, server: ModelServer) -> None:
    server.batches.script(create=["lost"])
    done = asked.afk(*VIA)
    assert done.code == 0, done.err
    assert states(asked) == ["done"] * NUMBER
    assert len(server.batches.made) == 1


def test_a_batch_that_is_not_found_is_parked_and_sent_again_only_by_demand(openai: Shell, server: ModelServer) -> None:
    server.batches.script(create=["dropped"])
    assert openai.afk(*VIA).code == 4
    assert states(openai) == ["parked"] * NUMBER
    assert all("may have been paid" in row["error"]["message"] for row in rows(openai).values())
    assert openai.afk(*VIA).code == 4
    assert server.batches.made == {}
    assert openai.afk(*VIA, "--retry-parked").code == 0
    assert states(openai) == ["done"] * NUMBER


def test_a_server_that_cannot_be_reached_leaves_everything_queued(openai: Shell, server: ModelServer) -> None:
    url = server.base_url
    server.close()
    done = openai.afk(*VIA)
    assert done.code == 4
    assert "refused the connection" in done.err
    assert rows(openai) == {}
    assert url


# -- the process ends --------------------------------------------------------------------------------------------------


def killed_at(shell: Shell, server: ModelServer, call: int) -> bool:
    """Run the batch, and kill its process with the request number `call` to the provider; return whether it came."""
    process = shell.start(*VIA)
    server.batches.on_call = lambda number: number == call and os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=LIMIT)
    server.batches.on_call = lambda number: None
    return process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("asked", "call"),
    [*(("openai", call) for call in range(1, 7)), *(("anthropic", call) for call in range(1, 5))],
    indirect=["asked"],
)
def test_a_process_that_is_killed_with_any_request_loses_and_pays_nothing_twice(
    asked: Shell, server: ModelServer, call: int
) -> None:
    server.batches.script(polls=1)
    was_killed = killed_at(asked, server, call)
    done = asked.afk(*VIA)
    assert done.code == 0, (was_killed, done.err)
    assert states(asked) == ["done"] * NUMBER
    assert set(texts(server.batches).values()) == {1}
    assert len(server.batches.made) == 1


@pytest.mark.parametrize("then", ["found", "gone"])
def test_a_process_that_dies_while_its_batch_is_made_sends_it_no_second_time(
    asked: Shell, server: ModelServer, then: str
) -> None:
    server.batches.script(polls=2, create=["lost" if then == "found" else "dropped"])
    calls = 2 if "openai" in asked.env["AFK_MODEL"] else 1
    assert killed_at(asked, server, calls)
    done = asked.afk(*VIA)
    assert states(asked) == (["done"] if then == "found" else ["parked"]) * NUMBER
    assert done.code == (0 if then == "found" else 4)
    assert len(server.batches.made) == (1 if then == "found" else 0)


def test_a_process_that_dies_after_a_refusal_sends_its_prompts_again(openai: Shell, server: ModelServer) -> None:
    busy = Step(status=429, headers={"Retry-After": "600"}, body={"error": {"message": "mark-busy"}})
    server.batches.script(create=[busy])
    process = openai.start(*VIA)
    assert process.stderr is not None
    assert b"mark-busy" in process.stderr.readline()
    process.kill()
    process.communicate(timeout=LIMIT)
    done = openai.afk(*VIA)
    assert done.code == 0, done.err
    assert states(openai) == ["done"] * NUMBER
    assert len(server.batches.made) == 1


def test_ctrl_c_leaves_the_batch_at_the_provider_and_another_process_takes_its_results(
    openai: Shell, server: ModelServer
) -> None:
    server.batches.script(polls=10**6)
    process = openai.start(*VIA)
    assert process.stderr is not None
    first = process.stderr.readline()
    assert b"has taken 5 prompts" in first
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode != 0
    assert b"stays at the provider" in err
    assert b"5 sent" in err
    assert rows(openai) == {}

    plain = openai.afk(*VIA[:5])
    assert (plain.code, server.requests) == (2, [])
    assert "--via provider" in plain.err

    server.batches.end()
    done = openai.afk(*VIA)
    assert done.code == 0, done.err
    assert states(openai) == ["done"] * NUMBER
    assert len(server.batches.made) == 1


def test_a_prompt_that_changed_while_it_is_at_the_provider_is_refused(openai: Shell, server: ModelServer) -> None:
    server.batches.script(polls=10**6)
    assert killed_at(openai, server, 4)
    write_prompts(openai, options={"temperature": 0.1})
    for more in ((), ("--rerun-changed",)):
        refused = openai.afk(*VIA, *more)
        assert refused.code == 2
        assert "changed" in refused.err


def test_cancel_cancels_at_the_provider_and_the_results_say_so(openai: Shell, server: ModelServer) -> None:
    server.batches.script(polls=10**6)
    assert killed_at(openai, server, 4)
    removed = openai.afk("batch", "rm", "results.jsonl", "--yes")
    assert removed.code == 2
    assert "at a provider" in removed.err
    assert "at the provider" in openai.afk("batch", "status", "results.jsonl").out
    cancelled = openai.afk("batch", "cancel", "results.jsonl")
    assert cancelled.code == 0, cancelled.err
    assert "1 batch with 5 prompts cancelled at the provider" in cancelled.err
    assert "--via provider" in cancelled.err
    assert openai.afk(*VIA).code == 4
    assert states(openai) == ["cancelled"] * NUMBER
    assert server.batches.worked_on == []
    assert openai.afk("batch", "rm", "results.jsonl", "--yes").code == 0


# -- what is refused before anything is paid ---------------------------------------------------------------------------


def refuses(shell: Shell, server: ModelServer, *more: str) -> str:
    done: Finished = shell.afk(*VIA, *more)
    assert done.code == 2, (done.err, (shell.folder / "results.jsonl").read_text()[:900])
    assert server.batches.calls == []
    assert server.requests == []
    assert len(done.err.strip().splitlines()) == 1 or "results are in" in done.err
    return done.err


def test_options_that_mean_nothing_there_are_refused(openai: Shell, server: ModelServer) -> None:
    for more in ("--threads", "--tool files.read", "--rpm 5", "--tpm 5", "--timeout 5s", "--workers 2"):
        done = openai.in_process(*VIA, *more.split())
        assert done.code == 2
        assert more.split()[0] in done.err
    assert server.batches.calls == []


def test_an_agent_with_tools_is_refused(openai: Shell, server: ModelServer) -> None:
    config = openai.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(f'[tools.files]\nroots = ["{openai.folder}"]\n[agents.worker]\ntools = ["files.read"]\n')
    assert "files.read" in refuses(openai, server, "-a", "worker")


def test_a_prompt_with_a_thread_is_refused(openai: Shell, server: ModelServer) -> None:
    write_prompts(openai, 1, thread="t-1")
    assert "thread" in refuses(openai, server)


def test_a_provider_without_batches_is_refused(openai: Shell, server: ModelServer) -> None:
    (openai.folder / "parrot.py").write_text(
        "from afkcli import hookimpl\nfrom afkcli.plugin import BaseProvider\nAFK_HOOKS = 1\n\n\n"
        "class Parrot(BaseProvider):\n    name = 'parrot'\n    default_model = 'grey'\n\n"
        "    async def stream(self, request):\n        yield\n\n\n"
        "@hookimpl\ndef afk_provider():\n    return Parrot()\n"
    )
    said = refuses(openai, server, "-m", "parrot/grey", "--plugin", "parrot.py")
    assert "'parrot' has no batches" in said


def test_poll_without_via_is_refused(openai: Shell, server: ModelServer) -> None:
    done = openai.afk(*VIA[:5], "--poll", "5")
    assert (done.code, server.requests) == (2, [])
    assert "--via provider" in done.err


# -- limits ------------------------------------------------------------------------------------------------------------


def test_no_more_is_sent_than_the_batch_may_cost(openai: Shell, server: ModelServer) -> None:
    prices(openai)
    write_prompts(openai, options={"max_output_tokens": 100})  # each: 100 tokens at 50 dollars a million, and its input
    usage = ScriptedUsage(input_tokens=10, output_tokens=100)
    server.batches.script(step=lambda body: Step(text="x", usage=usage))
    done = openai.afk(*VIA, "--max-cost", "0.0171")
    assert done.code == 4
    assert "--max-cost" in done.err
    assert Counter(row["state"] for row in rows(openai).values()) == {"done": 3}
    assert openai.afk(*VIA).code == 0
    assert states(openai) == ["done"] * NUMBER


def test_a_price_that_is_not_known_is_refused_with_max_cost(openai: Shell, server: ModelServer) -> None:
    assert "the price of" in refuses(openai, server, "--max-cost", "1")


# -- without waiting ---------------------------------------------------------------------------------------------------


def test_no_wait_sends_and_ends_and_the_same_command_takes_what_is_ready(asked: Shell, server: ModelServer) -> None:
    server.batches.script(polls=10**6)
    for _ in range(2):
        done = asked.afk(*VIA, "--no-wait")
        assert done.code == 0, done.err
        assert "5 sent" in done.err
        assert "run the same command again" in done.err
        assert len(server.batches.made) == 1
    server.batches.end()
    done = asked.afk(*VIA, "--no-wait")
    assert done.code == 0, done.err
    assert "run the same command again" not in done.err
    assert states(asked) == ["done"] * NUMBER
    assert set(texts(server.batches).values()) == {1}


def test_no_wait_does_not_wait_for_a_provider_that_is_busy(openai: Shell, server: ModelServer) -> None:
    busy = Step(status=429, headers={"Retry-After": "600"}, body={"error": {"message": "mark-busy"}})
    server.batches.script(create=[busy])
    done = openai.afk(*VIA, "--no-wait")
    assert done.code == 4
    assert "mark-busy" in done.err
    assert "5 queued" in done.err
    assert openai.afk(*VIA).code == 0
    assert states(openai) == ["done"] * NUMBER


def test_no_wait_without_via_is_refused(openai: Shell, server: ModelServer) -> None:
    done = openai.afk(*VIA[:5], "--no-wait")
    assert (done.code, server.requests) == (2, [])
    assert "--via provider" in done.err


# -- what a refused command leaves -------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["thread", "tools", "price"])
def test_a_refused_command_leaves_no_batch_and_no_file(openai: Shell, server: ModelServer, why: str) -> None:
    more: tuple[str, ...] = ()
    if why == "thread":
        write_prompts(openai, 3, thread="t-1")
    elif why == "tools":
        config = openai.home / "afk" / "config" / "config.toml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(f'[tools.files]\nroots = ["{openai.folder}"]\n[agents.worker]\ntools = ["files.read"]\n')
        more = ("-a", "worker")
    else:
        more = ("--max-cost", "1")
    assert openai.afk(*VIA, *more).code == 2
    assert not (openai.folder / "results.jsonl").exists()
    assert openai.afk("batch", "list").out == ""
    write_prompts(openai)
    done = openai.afk(*VIA[:5])
    assert done.code == 0, done.err
    assert states(openai) == ["done"] * NUMBER


def test_a_command_that_is_refused_leaves_a_batch_as_it_was(openai: Shell, server: ModelServer) -> None:
    server.batches.script(polls=10**6)
    assert openai.afk(*VIA, "--no-wait").code == 0
    before = openai.afk("batch", "status", "results.jsonl", "--json").out
    refused = openai.afk(*VIA[:5])
    assert refused.code == 2
    assert "were sent to a provider" in refused.err
    assert openai.afk("batch", "status", "results.jsonl", "--json").out == before
    assert server.requests == []
