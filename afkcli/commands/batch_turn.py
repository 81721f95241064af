"""`afk batch run` as a function: from an invocation and a request to how it ended."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

from afkcli.batch.batch_lock import lock_batch
from afkcli.batch.batch_request import BatchRequest
from afkcli.batch.engines import LOCAL, MakeEngine, batches_folder, engine_maker
from afkcli.batch.local_engine import LocalEngine
from afkcli.batch.named import fixed_defaults
from afkcli.batch.prompt import Defaults, Prompt
from afkcli.batch.running import Attendant, Attended, BatchPlan, Submission, submit_batch, take_back, work, worker_name
from afkcli.batch.worker import WorkerPlan
from afkcli.batch.worker_processes import Orders, fork_workers, held_back
from afkcli.commands.batch_command import options_of
from afkcli.commands.batch_dry_run import show_estimate
from afkcli.commands.batch_input import input_of
from afkcli.commands.batch_via import Attendance, attendance_via, check_options, check_sent
from afkcli.commands.batch_view import batch_view
from afkcli.core.contract.engine import BatchLimits, Engine, News, PromptState
from afkcli.core.contract.errors import EXIT_FAILED, EXIT_OK, AfkError, UsageError
from afkcli.host.ending import Ending
from afkcli.host.invocation import Invocation
from afkcli.screen.display import shown_activity
from afkcli.screen.messages import Messages
from afkcli.version import __version__
from afkcli.wiring.assembly import load_setup
from afkcli.wiring.setup import Setup
from afkcli.wiring.surroundings import runner_config

_PROMPTS_A_WORKER = 25
"""From so many prompts in flight on, another process is worth its start."""


def run_batch(invocation: Invocation, request: BatchRequest, *, debug: bool = False) -> Ending:
    """Run a batch and return how it ended. It raises nothing; what went wrong is written to stderr."""
    try:
        return _run(invocation, request)
    except BaseException as error:
        from afkcli.screen.errors import ending_of

        return ending_of(error, invocation, debug=debug)


def _run(invocation: Invocation, request: BatchRequest) -> Ending:
    if not hasattr(os, "fork"):
        raise UsageError("afk batch needs a system that can fork processes; Windows cannot")
    check_options(request)
    messages = Messages(invocation)
    setup = load_setup(invocation, project=True, plugin_files=request.plugins, notify=messages.say)
    found = input_of(invocation, request, Path(os.path.realpath(request.results)), messages.say)
    if request.dry_run:
        show_estimate(
            setup,
            found.defaults,
            found.prompts(setup, sample=request.sample, needs_keys=False),
            as_json=request.json,
            via_provider=request.via is not None,
        )
        return Ending(EXIT_OK)
    plan = _plan(request, found.defaults if request.engine == LOCAL else fixed_defaults(setup, found.defaults))
    make = engine_maker(setup, request.engine)
    lock = _locked(setup, request, plan, messages)
    try:
        with shown_activity(invocation, messages, "reading prompts", plain=request.plain):
            prompts = found.prompts(setup, sample=request.sample, fixes_models=request.engine != LOCAL)
            submission = asyncio.run(_submitted(make, request, plan, prompts))
        if submission.removed:
            messages.say(_removed(submission.removed, request))
        try:
            with held_back(invocation.stop_signals):
                return _attended(setup, request, plan, make, found.defaults, submission, messages)
        except UsageError:
            asyncio.run(_taken_back(make, plan, submission))
            raise
        finally:
            submission.file.close()
    finally:
        os.close(lock)


def _plan(request: BatchRequest, defaults: Defaults) -> BatchPlan:
    results = _results_file(request)
    return BatchPlan(
        name=request.name or str(results),
        results=results,
        settings={
            "v": 1,
            "afk": __version__,
            "results": str(results),
            "prompts": request.prompts if request.prompts == "-" else os.path.realpath(request.prompts),
            "defaults": defaults.to_json(),
            "ordered": request.ordered,
            "threads": request.keeps_threads,
            "engine": request.engine,
            "options": options_of(request),
            **({"via": request.via} if request.via is not None else {}),
        },
        limits=BatchLimits(
            concurrency=request.concurrency if request.via is None else None,
            requests_per_minute=request.rpm,
            tokens_per_minute=request.tpm,
            max_cost_usd=request.max_cost,
        ),
        ordered=request.ordered,
        replaces=request.rerun_changed,
        retries_parked=request.retry_parked,
        max_errors=request.max_errors,
        is_sample=request.sample is not None,
    )


def _removed(number: int, request: BatchRequest) -> str:
    what = "1 prompt that was" if number == 1 else f"{number:,} prompts that were"
    return (
        f"{what} not asked yet and {'is' if number == 1 else 'are'} no longer in {request.prompts}: cancelled; "
        "`afk batch retry --cancelled` queues them again"
    )


def _results_file(request: BatchRequest) -> Path:
    """Return the real path of the results; `UsageError` if they cannot be kept there."""
    given, results = request.results, Path(os.path.realpath(request.results))
    if str(given) == "-" or (given.exists() and not given.is_file()):
        raise UsageError(
            f"-o {given} cannot be used: a batch that continues needs the file of its results; use -o FILE, and read it"
            " with `afk batch results FILE`"
        )
    if request.prompts != "-" and results == Path(os.path.realpath(request.prompts)):
        raise UsageError(f"{given} is the file of the prompts; write the results to another one with -o")
    if not results.parent.is_dir():
        raise UsageError(f"there is no folder {results.parent}; make it, or write the results to another file")
    return results


def _locked(setup: Setup, request: BatchRequest, plan: BatchPlan, messages: Messages) -> int:
    """Take the lock of the batch, and of its file of results by the same: no other process of this machine runs it."""
    config = runner_config(setup, request.busy, request.busy_timeout)
    local = LocalEngine(batches_folder(setup.invocation))
    wait = config.busy_timeout_s if config.busy == "wait" else 0.0
    try:
        return lock_batch(local.file_of(plan.name).with_suffix(".lock"), plan.name, wait_s=wait, say=messages.say)
    except OSError as error:
        raise AfkError(f"the batch cannot be kept in {batches_folder(setup.invocation)}: {error.strerror}") from None


async def _submitted(make: MakeEngine, request: BatchRequest, plan: BatchPlan, prompts: Iterable[Prompt]) -> Submission:
    engine = make()
    try:
        before = await engine.batch(plan.name)
        if before is not None:
            check_sent(request, before)
        return await submit_batch(engine, plan, prompts)
    finally:
        await engine.aclose()


async def _taken_back(make: MakeEngine, plan: BatchPlan, submission: Submission) -> None:
    engine = make()
    try:
        await take_back(engine, plan, submission)
    finally:
        await engine.aclose()


def _attended(
    setup: Setup,
    request: BatchRequest,
    plan: BatchPlan,
    make: MakeEngine,
    defaults: Defaults,
    submission: Submission,
    messages: Messages,
) -> Ending:
    if request.via is None:
        attend = _attendance(setup, request, plan, make, defaults, submission, messages)
    else:
        attend = attendance_via(setup, request, plan, make, defaults, submission.file, messages)
    with batch_view(setup.invocation, messages, submission.batch, as_json=request.json, plain=request.plain) as view:
        attended = asyncio.run(attend(view.observe if view is not None else _observe_nothing))
    ending = _ending(attended, plan, request, messages)
    if view is not None:
        view.end(attended.batch, attended.problem, ending.code)
    return ending


def _attendance(
    setup: Setup,
    request: BatchRequest,
    plan: BatchPlan,
    make: MakeEngine,
    defaults: Defaults,
    submission: Submission,
    messages: Messages,
) -> Attendance:
    """Start the workers of a batch, and return what waits for their end."""
    queued = submission.batch.counts.get(PromptState.QUEUED, 0)
    number = _number_of_workers(request, queued)
    if submission.shares_threads:
        number = min(number, 1)  # one process asks the prompts of a thread in their order
    shared = request.engine != LOCAL
    if shared and queued and not number:
        messages.say(f"no worker was started here; start some with `afk batch worker --engine {request.engine}`")

    async def one(index: int, orders: Orders) -> str | None:
        at_once = -(-request.concurrency // number)
        worker = WorkerPlan(
            batch=plan.name,
            worker=worker_name(index),
            at_once=at_once,
            keeps_threads=request.keeps_threads,
            defaults=defaults,
        )
        return await work(make, setup, worker, orders)

    workers = fork_workers(number, one)

    async def attend(observe: Callable[[News], object]) -> Attended:
        engine: Engine = make()
        try:
            attendant = Attendant(
                engine, plan, workers, file=submission.file, observe=observe, say=messages.say, stays=shared
            )
            return await attendant.run(setup.invocation.stop_signals)
        finally:
            await engine.aclose()

    return attend


def _observe_nothing(news: News) -> None:
    pass


def _number_of_workers(request: BatchRequest, queued: int) -> int:
    """Return how many processes are worth it: none without work, and at most one a core."""
    if not queued:
        return 0
    if request.engine != LOCAL and request.workers is None:
        return 0
    if request.workers is not None:
        return min(request.workers, queued, request.concurrency)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, request.concurrency // _PROMPTS_A_WORKER, queued // _PROMPTS_A_WORKER))


def _ending(attended: Attended, plan: BatchPlan, request: BatchRequest, messages: Messages) -> Ending:
    counts = attended.batch.counts
    said = ", ".join(f"{counts[state]:,} {state.value}" for state in PromptState if counts.get(state))
    messages.say(f"{said or 'no prompts'}; the results are in {request.results}")
    if counts.get(PromptState.FAILED):
        messages.say(f"to see why prompts failed: {_failures_command(request)}")
    if counts.get(PromptState.PARKED):
        messages.say("parked prompts may have been paid without an answer; --retry-parked asks them again")
    problem = attended.problem or attended.batch.paused
    if problem is not None:
        messages.error(f"stopped early: {problem}; run the same command again to go on")
    if attended.signal is not None:
        return Ending(EXIT_FAILED, attended.signal)
    if request.no_wait and counts.get(PromptState.SENT):
        messages.say("the provider answers within a day; run the same command again to take the results")
    good = {PromptState.DONE, PromptState.SENT} if request.no_wait else {PromptState.DONE}
    whole = set(counts) <= good and problem is None
    return Ending(EXIT_OK if whole else EXIT_FAILED)


def _failures_command(request: BatchRequest) -> str:
    engine = [] if request.engine == LOCAL else ["--engine", request.engine]
    return shlex.join(["afk", "batch", "results", str(request.results), "--state", "failed", *engine])
