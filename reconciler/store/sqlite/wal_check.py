"""Whether SQLite's write-ahead log has transactions that SQLite itself leaves out.

SQLite reads the log up to the first frame whose checksum is wrong and takes the rest for what a power cut
left of the last transaction. But each transaction is on disk before the next one is written. So where two
or more complete ones follow a wrong frame, a power cut is not the cause: the file is damaged, and without
this check they would be lost without a message. A single one may remain after a power cut or failed commit.

The format is of https://www.sqlite.org/fileformat2.html, section 4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

MAX_LEFT_BEHIND = 1
"""Complete transactions after a wrong frame that a power cut or a failed commit explains."""

_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_LITTLE_ENDIAN = 0x377F0682
_BIG_ENDIAN = 0x377F0683
_TRIES = 3
"""Another process may begin the log anew while it is read: then it is read again."""

Sums = tuple[int, int]


def transactions_left_out(path: str) -> int:
    """Return how many complete transactions follow a wrong frame in the log of the state ``path``.

    0 if there is no log, or it changes whenever it is read. Raises OSError.
    """
    for _ in range(_TRIES):
        try:
            with open(f"{path}-wal", "rb") as file:
                log = file.read()
                file.seek(0)
                if file.read(_HEADER_BYTES) == log[:_HEADER_BYTES]:
                    return _left_out(log)
        except FileNotFoundError:
            return 0
    return 0


def is_damaged(path: str) -> bool:
    """Tell whether SQLite leaves out more of the log than a power cut explains. Raises OSError."""
    return transactions_left_out(path) > MAX_LEFT_BEHIND


def _left_out(log: bytes) -> int:
    if len(log) < _HEADER_BYTES:
        return 0
    magic, _, page_bytes, _, *salts, first, second = struct.unpack(">8I", log[:_HEADER_BYTES])
    if magic not in (_LITTLE_ENDIAN, _BIG_ENDIAN) or not 512 <= page_bytes <= 65536:
        return 0
    order = ">" if magic == _BIG_ENDIAN else "<"
    sums = _sums(log[: _HEADER_BYTES - 8], (0, 0), order)
    is_right, left_out = sums == (first, second), 0
    for head, page in _frames(log, page_bytes):
        _, commit, *frame_salts, first, second = struct.unpack(">6I", head)
        if frame_salts != salts:
            break
        if is_right:
            sums = _sums(page, _sums(head[:8], sums, order), order)
            is_right = sums == (first, second)
        left_out += not is_right and commit > 0
    return left_out


def _frames(log: bytes, page_bytes: int) -> Iterator[tuple[bytes, bytes]]:
    step = _FRAME_HEADER_BYTES + page_bytes
    for begin in range(_HEADER_BYTES, len(log) - step + 1, step):
        yield log[begin : begin + _FRAME_HEADER_BYTES], log[begin + _FRAME_HEADER_BYTES : begin + step]


def _sums(data: bytes, sums: Sums, order: str) -> Sums:
    """Return the running checksum of the log after ``data``, whose length is a multiple of 8."""
    first, second = sums
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for even, odd in zip(words, words, strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
