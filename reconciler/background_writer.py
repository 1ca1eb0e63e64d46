"""Writes text to a descriptor in a thread of its own, so that no reader, disk or terminal delays the work.

``write`` adds to a queue and returns at once; only the thread waits in ``write(2)``. With a bound, what
finds the queue full is dropped and counted, and one line says so where it is missing. A write that fails
drops what it was to write. The descriptor is shared with other processes, so it is never made
non-blocking; if another process did that, the thread tries again. The thread is a daemon that holds no
lock while it writes: a process ends although its last write never returns.
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
"""The most log that waits: about 3,000 lines, more than the start of a hundred accounts writes. As much
again may be with the thread, so a log that is not read takes at most twice this memory."""

DRAIN_TIMEOUT_S = 1.0
"""How long the end of a process, or its result on stdout, waits for what is queued. A reader that reads at
all takes a full queue in less; a supervisor that waits 10 s before it kills does not wait."""

WRITE_AGAIN_S = 0.05
"""Between two tries at a descriptor that another process made non-blocking, while it is full."""


class BackgroundWriter:
    """A queue in front of a descriptor, and the thread that writes it.

    ``max_bytes`` bounds the queue; None: no bound, for text that is itself bounded and that a person
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
        """Lines that were dropped so far, in all."""
        self._max_bytes = max_bytes
        # A finalizer may print while this very thread holds the lock: it is one that may be taken twice.
        self._changed = threading.Condition(threading.RLock())
        self._waiting = bytearray()
        self._full = False
        self._dropped_when_full = 0
        self._writing = False
        self._batches = 0
        self._gave_up_at: int | None = None
        self._closed = False
        self._thread: threading.Thread | None = None
        # Of the thread alone.
        self._unreported = 0
        self._within_line = False

    def write(self, data: bytes) -> None:
        """Queue ``data``, or drop and count it where it would exceed the bound. Never waits."""
        if self._closed:  # without the lock: the interpreter may have stopped the thread while it held it
            self._write_if_possible(data)
            return
        with self._changed:
            if self._is_full(len(data)) or not self._has_thread():
                self._drop(data)
            else:
                self._waiting += data
                self._changed.notify_all()

    def drain(self, timeout_s: float | None) -> bool:
        """Wait until nothing is left to write; tells whether it is so. None: for as long as it takes.

        After a wait that was in vain another one waits only once something was written.
        """
        with self._changed:
            in_vain = timeout_s is not None and self._gave_up_at == self._batches
            if not in_vain and not self._changed.wait_for(self._is_idle, timeout_s):
                self._gave_up_at = self._batches
            return self._is_idle()

    def close(self, timeout_s: float | None) -> None:
        """Drain. What is written later goes out at once, or not at all where it would have to wait."""
        self.drain(timeout_s)
        self._closed = True

    def _is_full(self, more: int) -> bool:
        """Tell whether ``more`` bytes do not fit; into an empty queue everything does, a long plan too.

        Once full, until the thread takes what is queued: so what is missing is missing in one place.
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
        """Tell whether there is a thread, which the first text starts; False where no more may be had."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="background writer", daemon=True)
            with suppress(RuntimeError):
                thread.start()
                self._thread = thread
        return self._thread is not None

    def _write_if_possible(self, data: bytes) -> None:
        """Write without waiting: a pipe that is ready takes PIPE_BUF bytes at once, as poll(2) means it."""
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        with suppress(OSError):
            while data and self._is_idle() and poll.poll(0):
                data = data[os.write(self.fd, data[: select.PIPE_BUF]) :]

    # ---- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        # Signals are for the main thread to wake up from. And SIGTTOU, of a terminal with ``stty tostop``,
        # would stop the whole process where it runs in the background.
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
        """Write ``data``, after the line about what was dropped before it; what fails is dropped."""
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
        except Exception:  # what renders the log has a fault, and still nothing is missing in silence
            line = f"{self._unreported} lines dropped"
        return b"\n" * self._within_line + line.encode("utf-8", "backslashreplace") + b"\n"

    def _written(self, data: bytes) -> bytes:
        """Write ``data``; returns what could not be written."""
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
    """A text stream over a :class:`BackgroundWriter`, to stand for ``sys.stderr``."""

    def __init__(self, writer: BackgroundWriter, stands_for: TextIO) -> None:
        self.writer = writer
        self._stands_for = stands_for  # which would close the descriptor when nothing refers to it

    @property
    def encoding(self) -> str:  # type: ignore[override] # typeshed has a variable
        """The encoding, that of the stream this stands for."""
        return self._stands_for.encoding

    @property
    def errors(self) -> str:  # type: ignore[override] # typeshed has a variable
        """What is done about characters that the encoding lacks, as Python's own stderr does it."""
        return "backslashreplace"

    def write(self, text: str) -> int:
        """Queue ``text``."""
        self.writer.write(text.encode(self.encoding, self.errors))
        return len(text)

    def flush(self) -> None:
        """Do nothing: the thread writes it, and no caller waits."""

    def writable(self) -> bool:
        """Tell that this can be written to."""
        return True

    def isatty(self) -> bool:
        """Tell whether the descriptor is a terminal."""
        return os.isatty(self.writer.fd)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.writer.fd
