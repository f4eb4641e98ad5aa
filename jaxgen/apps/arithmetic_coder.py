"""Arithmetic coding to the bit (Witten, Neal and Cleary, 1987), on whole numbers alone.

A message of probability p takes at most −log2 p + 2 bits, plus what rounding the frequencies costs:
less than a millionth of a bit a symbol. Libraries code in words of 16 or 32 bits, which a picture
of a hundred bits would not bear.

A table of frequencies is its cumulative sums `[L + 1]`, from 0 to the total, each step at least 1.
"""

import numpy as np

_BITS = 62
_TOP = 1 << _BITS
_HALF, _QUARTER = _TOP >> 1, _TOP >> 2
# Totals up to here lose nothing worth mentioning to rounding in a register of 62 bits.
TOTAL = 1 << 32


def table(log_probs: np.ndarray) -> list[int]:
    """Cumulative frequencies of levels with these log p `[L]`, in nats, with the total `TOTAL`.

    A function of the bits of `log_probs` alone; every level can be coded.
    """
    p = np.exp(np.asarray(log_probs, np.float64))
    p /= p.sum()
    counts = 1 + np.floor(p * (TOTAL - len(p))).astype(np.int64)
    counts[np.argmax(counts)] += TOTAL - counts.sum()
    return [0, *np.cumsum(counts).tolist()]


def uniform(count: int) -> list[int]:
    """The table of `count` levels that are equally likely."""
    return list(range(count + 1))


class Encoder:
    """Takes levels with their tables; `finish` gives the bytes."""

    def __init__(self) -> None:
        self._low, self._high, self._pending = 0, _TOP - 1, 0
        self._written: list[int] = []

    def encode(self, level: int, cumulative: list[int]) -> None:
        """Adds one level."""
        width, total = self._high - self._low + 1, cumulative[-1]
        self._high = self._low + width * cumulative[level + 1] // total - 1
        self._low += width * cumulative[level] // total
        while True:
            if self._high < _HALF:
                self._write(0)
            elif self._low >= _HALF:
                self._write(1)
                self._low -= _HALF
                self._high -= _HALF
            elif self._low >= _QUARTER and self._high < _HALF + _QUARTER:
                # The next bit is open, and the one after it is then the opposite.
                self._pending += 1
                self._low -= _QUARTER
                self._high -= _QUARTER
            else:
                return
            self._low, self._high = 2 * self._low, 2 * self._high + 1

    def _write(self, bit: int) -> None:
        self._written += [bit] + [1 - bit] * self._pending
        self._pending = 0

    def finish(self) -> tuple[bytes, int]:
        """The code and its length in bits; the last byte is filled up with zeros."""
        # Whatever follows, zeros or not, stays within the interval.
        self._pending += 1
        self._write(0 if self._low < _QUARTER else 1)
        return np.packbits(np.array(self._written, np.uint8)).tobytes(), len(self._written)


class Decoder:
    """Gives the levels back, from the same tables in the same order."""

    def __init__(self, code: bytes) -> None:
        self._bits = np.unpackbits(np.frombuffer(code, np.uint8)).tolist()
        self._at, self._low, self._high, self._value = 0, 0, _TOP - 1, 0
        for _ in range(_BITS):
            self._read()

    def _read(self) -> None:
        bit = self._bits[self._at] if self._at < len(self._bits) else 0
        self._value, self._at = 2 * self._value + bit, self._at + 1

    def decode(self, cumulative: list[int]) -> int:
        """The next level."""
        width, total = self._high - self._low + 1, cumulative[-1]
        place = ((self._value - self._low + 1) * total - 1) // width
        level = int(np.searchsorted(cumulative, place, side='right')) - 1
        self._high = self._low + width * cumulative[level + 1] // total - 1
        self._low += width * cumulative[level] // total
        while True:
            if self._high < _HALF:
                offset = 0
            elif self._low >= _HALF:
                offset = _HALF
            elif self._low >= _QUARTER and self._high < _HALF + _QUARTER:
                offset = _QUARTER
            else:
                return level
            self._low, self._high = 2 * (self._low - offset), 2 * (self._high - offset) + 1
            self._value -= offset
            self._read()
