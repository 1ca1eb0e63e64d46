"""Writes text to a descriptor in a thread of its own, so that no reader, disk or terminal delays the work.

``write`` adds to a queue and returns at once; only the thread waits in ``write(2)``. If the queue has a
bound and is full, new text is dropped and counted, and one line in its place reports the number. A write
that fails drops its text. Other processes share the descriptor, so it is never made non-blocking; if
another process did that, the thread tries again. The thread is a daemon and holds no lock while it writes,
so a process can end although its last write never returns.
"""

from __future__ import annotations

import io
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

MAX_LOG_BYTES = 1024 * 1024
"""The most log that the queue holds: about 3,000 lines, more than the start of a hundred accounts writes.
The thread may hold as much again, so a log that is not read takes at most twice this memory."""

DRAIN_TIMEOUT_S = 1.0
"""How long the end of a process, or its result on stdout, waits for queued text. Any working reader reads a
full queue in less time, and a supervisor kills a process after 10 s."""

WRITE_AGAIN_S = 0.05
"""The time between two writes to a full descriptor that another process made non-blocking."""


class BackgroundWriter:
    """A queue in front of a descriptor, and the thread that writes it.

    ``max_bytes`` bounds the queue; None: no bound, for text that is bounded itself and that a person
    waits for. ``describe_dropped`` returns the line for a number of dropped lines; it is called in the
    thread. ``error`` is the newest failure of a write.
    """

    def __init__(
        self, fd: int, *, max_bytes: int | None, describe_dropped: Callable[[int], str] | None = None
    ) -> None:
        self.fd = fd
        self.describe_dropped = describe_dropped
        self.error: OSError | None = None
        self.dropped_lines = 0
        """The number of lines dropped so far."""
        self._max_bytes = max_bytes
        # Reentrant: a finalizer may print while the same thread has the lock.
        self._changed = threading.Condition(threading.RLock())
        self._waiting = bytearray()
        self._full = False
        self._dropped_when_full = 0
        self._writing = False
        self._batches = 0
        self._gave_up_at: int | None = None
        self._closed = False
        self._thread: threading.Thread | None = None
        # Used only by the thread.
        self._unreported = 0
        self._within_line = False

    def write(self, data: bytes) -> None:
        """Queue ``data``, or drop and count it where it would exceed the bound. Never waits."""
        if self._closed:  # without the lock: the interpreter may have stopped the thread that had it
            self._write_if_possible(data)
            return
        with self._changed:
            if self._is_full(len(data)) or not self._has_thread():
                self._drop(data)
            else:
                self._waiting += data
                self._changed.notify_all()

    def drain(self, timeout_s: float | None) -> bool:
        """Wait until all text is written; returns whether it is. None: without a limit.

        After a wait that timed out, the next one waits only if something was written since.
        """
        with self._changed:
            in_vain = timeout_s is not None and self._gave_up_at == self._batches
            if not in_vain and not self._changed.wait_for(self._is_idle, timeout_s):
                self._gave_up_at = self._batches
            return self._is_idle()

    def close(self, timeout_s: float | None) -> None:
        """Drain. Later text is written at once, or dropped if the write would have to wait."""
        self.drain(timeout_s)
        self._closed = True

    def _is_full(self, more: int) -> bool:
        """Tell whether ``more`` bytes do not fit. An empty queue takes any text, also a long plan.

        A full queue stays full until the thread takes its text, so that all dropped lines are in one place.
        """
        queued, most = len(self._waiting), self._max_bytes
        if queued and most is not None and queued + more > most:
            self._full = True
        return self._full

    def _is_idle(self) -> bool:
        return not self._waiting and not self._writing

    def _drop(self, data: bytes) -> None:
        lines = data.count(b"\n")
        self._dropped_when_full += lines
        self.dropped_lines += lines

    def _has_thread(self) -> bool:
        """Tell whether there is a thread; the first text starts it. False if no thread can be started."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="background writer", daemon=True)
            with suppress(RuntimeError):
                thread.start()
                self._thread = thread
        return self._thread is not None

    def _write_if_possible(self, data: bytes) -> None:
        """Write without waiting: a pipe that poll(2) reports as ready takes PIPE_BUF bytes at once."""
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        with suppress(OSError):
            while data and self._is_idle() and poll.poll(0):
                data = data[os.write(self.fd, data[: select.PIPE_BUF]) :]

    # ---- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        # Signals must wake the main thread. And SIGTTOU, from a terminal with ``stty tostop``, would stop
        # a process that runs in the background.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                batch, self._waiting = bytes(self._waiting), bytearray()
                missing, self._dropped_when_full = self._dropped_when_full, 0
                self._full, self._writing = False, True
            try:
                self._emit(batch)
                self._unreported += missing
                if missing:
                    self._emit(b"")
            except Exception:  # no memory, for instance: the next text may go through
                self._lose(batch.count(b"\n"))
            with self._changed:
                self._writing = False
                self._batches += 1
                self._changed.notify_all()

    def _emit(self, data: bytes) -> None:
        """Write ``data`` after the line about dropped lines; text that cannot be written is dropped."""
        notice = self._notice()
        left = self._written(notice + data)
        if len(left) <= len(data):
            self._unreported = 0
        self._lose(left[-len(data) :].count(b"\n") if data else 0)

    def _lose(self, lines: int) -> None:
        self._unreported += lines
        with self._changed:
            self.dropped_lines += lines

    def _notice(self) -> bytes:
        describe = self.describe_dropped
        if not self._unreported or describe is None:
            return b""
        try:
            line = describe(self._unreported)
        except Exception:  # rendering failed: the dropped lines are reported all the same
            line = f"{self._unreported} lines dropped"
        return b"\n" * self._within_line + line.encode("utf-8", "backslashreplace") + b"\n"

    def _written(self, data: bytes) -> bytes:
        """Write ``data``; returns the part that could not be written."""
        left = memoryview(data)
        while left:
            try:
                number = os.write(self.fd, left)
            except BlockingIOError:
                time.sleep(WRITE_AGAIN_S)
                continue
            except OSError as error:
                self.error = error
                break
            self._within_line = left[number - 1] != ord("\n")
            left = left[number:]
        return bytes(left)


class BackgroundText(io.TextIOBase):
    """A text stream over a :class:`BackgroundWriter`, used as ``sys.stderr``."""

    def __init__(self, writer: BackgroundWriter, stands_for: TextIO) -> None:
        self.writer = writer
        self._stands_for = stands_for  # referenced, because its finalizer would close the descriptor

    @property
    def encoding(self) -> str:  # type: ignore[override] # typeshed has a variable
        """The encoding of the stream that this replaces."""
        return self._stands_for.encoding

    @property
    def errors(self) -> str:  # type: ignore[override] # typeshed has a variable
        """How characters outside the encoding are written, as by Python's own stderr."""
        return "backslashreplace"

    def write(self, text: str) -> int:
        """Queue ``text``."""
        self.writer.write(text.encode(self.encoding, self.errors))
        return len(text)

    def flush(self) -> None:
        """Do nothing: the thread writes the text, and no caller waits."""

    def writable(self) -> bool:
        """Return True: this stream can be written to."""
        return True

    def isatty(self) -> bool:
        """Tell whether the descriptor is a terminal."""
        return os.isatty(self.writer.fd)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.writer.fd
