"""What ``mmp apply`` shows: the plans, the question, the progress, and the results of every account."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NoReturn

import click

from reconciler import logs
from reconciler.cli.output import BackgroundStdout, Output, has_terminal, wait_for_stderr
from reconciler.cli.progress import BarProgress, LogProgress
from reconciler.controller.apply_errors import STOPPED
from reconciler.controller.apply_state import AccountApply, ApplyOptions, combined_status
from reconciler.core.apply_result import FamilyResult
from reconciler.core.events import Observe
from reconciler.core.plan import Plan
from reconciler.documents.plan import PlanContext, apply_document, one_or_list
from reconciler.errors import Exit, MmpError
from reconciler.process_signals import SIGNALS
from reconciler.render.plan_text import plan_text, results_text
from reconciler.render.policy_refusals import tighter_families
from reconciler.render.values import count


class ApplyOutput:
    """The output of one ``mmp apply``, and its question."""

    def __init__(self, options: ApplyOptions, out: Output) -> None:
        self._options = options
        self._simulator = options.base.is_simulator
        self._out = out
        self._plans = BackgroundStdout()

    def has_terminal(self) -> bool:
        """Whether a person can be asked."""
        return has_terminal()

    def show_plan(self, run: AccountApply, plan: Plan, *, to_confirm: bool) -> None:
        """Show a plan; if a document was requested, only a person who must confirm sees the plan."""
        if self._out.json and not to_confirm:
            return
        policy, missing = run.rules.in_force.policy, run.rules.missing
        context = PlanContext.of(run.desired, self._options.base.host, policy, missing)
        write, stream = (self._out.info, sys.stderr) if self._out.json else (self._plans.write, sys.stdout)
        wait_for_stderr()  # a long plan fills the buffer of the log
        write(plan_text(plan, context, simulator=self._simulator, paint=self._out.paint(stream)) + "\n")

    def confirm(self, runs: Sequence[AccountApply]) -> bool:
        """Ask whether the first plans may be sent; if not, say that nothing was sent."""
        requests = sum(len(run.first.requests) for run in runs if run.first)
        confirmed = False
        try:
            confirmed = self._ask(f"Send {count(requests, 'request')} to {self._where(runs)}?")
        finally:
            if not confirmed:
                self._out.info("Nothing was sent.")
                if self._out.json:
                    declined = MmpError("declined", "nothing was sent: the answer was no")
                    self._out.failure_document(declined)
        return confirmed

    def _ask(self, question: str) -> bool:
        """Ask on the terminal; a signal ends the question at once, without a wait for requests in flight.

        The question blocks the event loop, so the signal handlers of the loop would run after the answer
        only. Other handlers replace them until then.
        """
        previous_handlers = {
            signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
            signal.SIGTERM: signal.signal(signal.SIGTERM, _terminated),
        }
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            previous_handlers[signal.SIGHUP] = signal.signal(signal.SIGHUP, _hung_up)
        try:
            self._plans.finish()  # the person saw the plans
            return click.confirm(question, err=True)
        except KeyboardInterrupt:
            raise click.Abort from None
        finally:
            for number, handler in previous_handlers.items():
                signal.signal(number, handler)

    def _where(self, runs: Sequence[AccountApply]) -> str:
        host = self._options.base.host
        if self._simulator:
            return f"the SIMULATOR at {host}"
        return f"{host} ({', '.join(sorted({run.desired.environment.value for run in runs}))})"

    def progress(self, run: AccountApply, log: Observe, *, alone: bool) -> AbstractContextManager[Observe]:
        """Show a bar for a single account on a terminal, else log lines."""
        if alone and sys.stderr.isatty():
            return BarProgress(log, run.clock, colored=self._out.colored_stderr())
        return LogProgress(log, logs.log, run.clock)

    def report(self, runs: Sequence[AccountApply], signalled: Exit | None) -> Exit:
        """Write every account's results and failures; returns the exit status of all.

        ``signalled`` is the exit status of the signal that stopped the apply. This runs outside the event
        loop: the result may have to wait for its reader, and a signal ends that.
        """
        SIGNALS.limit_result_wait()
        self._plans.finish()
        outcomes = [run.results(signalled, self._options.reviewed) for run in runs]
        if self._out.json:
            self._report_documents(runs, outcomes)
        for run, results in zip(runs, outcomes, strict=True):
            if run.result is not None and run.problem is None and not self._out.json:
                self._report_text(run, results, alone=len(runs) == 1)
            if run.failure is not None:
                self._out.error(_with_account_name(run, run.failure, alone=len(runs) == 1))
        if signalled is not None:
            banner = "SIMULATOR: " if self._simulator else ""
            self._out.info(f"{banner}{STOPPED.message}, {STOPPED.hint}")
            return signalled
        return combined_status(runs, outcomes)

    def _report_text(self, run: AccountApply, results: tuple[FamilyResult, ...], *, alone: bool) -> None:
        """Write the results, and the command that applies the file's values where fields stayed tighter."""
        text = results_text(
            results,
            finished=run.finished,
            place="" if alone and not self._simulator else run.place,
            simulator=self._simulator,
            paint=self._out.paint(),
        )
        self._out.result(text)
        if run.remaining_plan is not None:
            for family, one in tighter_families(run.remaining_plan, run.desired.path).items():
                if one.command:
                    text = f"{family} stays tighter than the file; to set the file's values: {one.command}"
                    self._out.info(text)

    def _report_documents(
        self, runs: Sequence[AccountApply], outcomes: Sequence[tuple[FamilyResult, ...]]
    ) -> None:
        """Write one document in every case: the applies, or why there was not even a plan."""
        saved = self._options.saved
        documents = [
            apply_document(
                run.first,
                results,
                saved.plan.digest if saved else run.first.digest,
                simulator=self._simulator,
            )
            for run, results in zip(runs, outcomes, strict=True)
            if run.first is not None
        ]
        if len(documents) == len(runs):
            self._out.document(one_or_list("apply", documents))
            return
        problems = [
            _with_account_name(run, run.failure, alone=len(runs) == 1) for run in runs if run.failure
        ]
        self._out.failure_document(*(problems or [STOPPED]))


def _with_account_name(run: AccountApply, problem: MmpError, *, alone: bool) -> MmpError:
    """Return ``problem`` with the name of its account, if there are several accounts."""
    return problem if alone else problem.prefixed(run.place, path=run.desired.path)


def _terminated(_number: int, _frame: object) -> NoReturn:
    raise click.exceptions.Exit(Exit.TERMINATED)


def _hung_up(_number: int, _frame: object) -> NoReturn:
    raise click.exceptions.Exit(Exit.HANGUP)
