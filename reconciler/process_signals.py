"""Handles the signals of this process from its start to its end; imported before all else.

Before an event loop receives signals, nothing is in flight: the process ends at once, with the exit
status that the command has for a stop. While the loop runs, it receives the signals. After the loop only
the result remains to be written, and its reader has some seconds. The handlers are set once and stay. So a
signal never has its default action, which kills a process during its work, and which the kernel does not
apply to process 1 of a container.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False  # type checkers know the name; importing ``typing`` takes time
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

RESULT_WAIT_S = 3.0
"""How long the result may take after a signal. The result of 10,000 families is made and read in far less
time, and a supervisor kills only after 10 s."""

_STATUSES: Mapping[signal.Signals, int | None] = {
    signal.SIGTERM: 143,
    signal.SIGINT: 130,
    signal.SIGHUP: 129,
}
_STATUSES_OF_RUN: Mapping[signal.Signals, int | None] = {
    signal.SIGTERM: 0,
    signal.SIGINT: 0,
    signal.SIGHUP: None,
}
"""The exit status after a signal; None: the signal ends nothing. A stop is the normal end of ``run``."""


class ProcessSignals:
    """The signals of this process; there is one, ``SIGNALS``."""

    def __init__(self) -> None:
        self.before_end: Callable[[], object] = lambda: None
        """Called before a signal ends the process; it must not take long."""
        self._installed = False
        self._statuses: Mapping[signal.Signals, int | None] = _STATUSES
        self._loop: asyncio.AbstractEventLoop | None = None
        self._receivers: dict[signal.Signals, Callable[[], None]] = {}
        self._received: signal.Signals | None = None

    def install(self, command: str) -> None:
        """Set the handlers; ``command`` is the verb of the command line.

        A signal that the caller ignores, as sh does with SIGINT for a background job, stays ignored.
        """
        self._statuses = _STATUSES_OF_RUN if command == "run" else _STATUSES
        self._installed = True
        for number in self._statuses:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def let_interrupts_raise(self) -> None:
        """Let SIGINT raise KeyboardInterrupt, which shows what was interrupted; ``run`` only ends."""
        if self._statuses is _STATUSES and signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def deliver_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """Call the receivers in ``loop`` from now on, until the loop is closed."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        # This wakes the loop: the handler runs in this thread, and only between two of its steps.
        loop.add_reader(reading, os.read, reading, 4096)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._loop = loop

    def receive(self, number: signal.Signals, receiver: Callable[[], None]) -> None:
        """Call ``receiver`` in the loop for a signal from now on."""
        self._receivers[number] = receiver
        signal.signal(number, self._handle)

    def receive_end(self, number: signal.Signals, receiver: Callable[[], None]) -> None:
        """Call ``receiver`` in the loop for a signal that ends this command and is not ignored."""
        ignored = number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN  # nohup
        if self._statuses.get(number) is not None and not ignored:
            self.receive(number, receiver)

    def limit_result_wait(self) -> None:
        """Limit the time to write the result, if there was a signal; call it after the loop."""
        if self._received is not None:
            self._end_later(self._received)

    def ignore(self) -> None:
        """Let no signal change the exit status any more: all is written, and the interpreter ends."""
        if self._installed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number in self._statuses:
                signal.signal(number, signal.SIG_IGN)

    def _handle(self, number: int, _frame: object) -> None:
        received, loop = signal.Signals(number), self._loop
        receiver, ends = self._receivers.get(received), self._statuses.get(received) is not None
        if ends:
            self._received = self._received or received
        if loop is not None and not loop.is_closed() and receiver is not None:
            loop.call_soon_threadsafe(receiver)
        elif ends and loop is None:
            self.before_end()
            self._end(received)
        elif ends:
            self._end_later(received)

    def _end_later(self, received: signal.Signals) -> None:
        """End the process in RESULT_WAIT_S, unless it ends before. A handler cannot start a thread."""
        if signal.getitimer(signal.ITIMER_REAL)[0] == 0.0:
            signal.signal(signal.SIGALRM, lambda *_: self._end(received))
            signal.setitimer(signal.ITIMER_REAL, RESULT_WAIT_S)

    def _end(self, received: signal.Signals) -> None:
        os._exit(self._statuses.get(received) or 0)


SIGNALS = ProcessSignals()
