"""`afk batch run --via provider`: the part of it that is not the same as for a batch that runs on this machine."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias

from afkcli.batch.engines import MakeEngine, batches_folder
from afkcli.batch.running import Attendant, Attended, BatchPlan, worker_name
from afkcli.core.contract.engine import BatchInfo, News, PromptState
from afkcli.core.contract.errors import UsageError

if TYPE_CHECKING:
    from afkcli.batch.batch_request import BatchRequest
    from afkcli.batch.prompt import Defaults
    from afkcli.batch.results_file import ResultsFile
    from afkcli.screen.messages import Messages
    from afkcli.wiring.setup import Setup

Attendance: TypeAlias = Callable[[Callable[[News], object]], Coroutine[Any, Any, Attended]]
"""Waits for the end of the workers of a batch; it takes what is called with what happened."""

STOPPING = "stopping: what was sent stays at the provider; the same command continues it"


def check_options(request: BatchRequest) -> None:
    """Refuse options that mean nothing where a provider answers later.

    Raises:
        UsageError: one of them is given.
    """
    if request.via is None:
        if request.poll is not None:
            raise UsageError("--poll is for batches of a provider; add --via provider, or leave it out")
        if request.no_wait:
            raise UsageError("--no-wait is for batches of a provider; add --via provider, or leave it out")
        return
    given = {
        "--threads": request.keeps_threads,
        "--tool": bool(request.tools),
        "--rpm": request.rpm is not None,
        "--tpm": request.tpm is not None,
        "--timeout": request.timeout is not None,
        "--workers": request.workers is not None,
    }
    named = [name for name, is_given in given.items() if is_given]
    if named:
        why = "a batch of the provider answers one request for each prompt, in its own time"
        raise UsageError(f"{named[0]} cannot be used with --via provider: {why}; leave one of them out")


def check_sent(request: BatchRequest, batch: BatchInfo) -> None:
    """Refuse to run prompts on this machine while some of them are at a provider.

    Raises:
        UsageError: some are.
    """
    sent = batch.counts.get(PromptState.SENT, 0)
    if sent and request.via is None:
        raise UsageError(
            f"{sent:,} prompts of this batch were sent to a provider, which may answer and charge for them; take their "
            "results with --via provider"
        )


def attendance_via(
    setup: Setup,
    request: BatchRequest,
    plan: BatchPlan,
    make: MakeEngine,
    defaults: Defaults,
    file: ResultsFile,
    messages: Messages,
) -> Attendance:
    """Return what sends the prompts of a batch to their providers, and writes what comes back.

    It raises `UsageError` where a prompt cannot be answered in this way, before anything is sent.
    """
    from afkcli.batch.driver_worker import DriverWorker
    from afkcli.batch.via_provider import MOST_POLL_S, ProviderDriver, Via

    via = Via(
        batch=plan.name,
        worker=worker_name(0),
        defaults=defaults,
        folder=batches_folder(setup.invocation) / "chunks",
        poll_s=MOST_POLL_S if request.poll is None else request.poll,
        waits=not request.no_wait,
    )

    async def attend(observe: Callable[[News], object]) -> Attended:
        engine, own = make(), make()
        worker = DriverWorker(lambda: ProviderDriver(setup, own, via, messages.say))
        attendant = Attendant(engine, plan, [worker], file=file, observe=observe, say=messages.say, stopping=STOPPING)
        try:
            attended = await attendant.run(setup.invocation.stop_signals)
        finally:
            await worker.aclose()
            await own.aclose()
            await engine.aclose()
        if isinstance(worker.error, UsageError):
            raise worker.error
        return attended

    return attend
