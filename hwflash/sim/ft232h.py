"""A simulated FT232H: FIFOs, vendor requests, latency timer and the time USB takes.

A blocking bulk call takes at least one micro-frame of 125 µs, payload moves at 40 MB/s. Data
the engine has produced become visible when a packet is full (510 bytes), when 87h was
executed, or when the latency timer ends; a packet that is not full ends a read.

Ref: FTDI AN_108, AN_232B-04 (latency timer, status bytes), DS_FT232H (FIFOs of 1 KiB);
request numbers as in libftdi and pyftdi.
Limits: only MPSSE is modelled, in every other bit mode written bytes are lost.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, inf
from typing import Final

from hwflash.sim.clock import VirtualClock
from hwflash.sim.endpoint0 import PACKET, Stalled
from hwflash.sim.mpsse import FIFO, Mpsse

_PAYLOAD: Final = PACKET - 2
_STATUS: Final = b"\x32\x60"
_MICRO_FRAME: Final = 125e-6
_RATE: Final = 40e6
_FOREVER: Final = 3600.0  # what a time-out of 0 amounts to when nothing can happen any more
_MPSSE_MODE: Final = 2


class TimedOut(Exception):
    """A bulk call could not finish in its time."""


class Overflowed(Exception):
    """A packet is longer than what is left of the request."""


class Ft232h:
    """The chip, seen from its endpoints.

    Attributes:
        bit_mode: the bit mode in force, 2 for MPSSE.
    """

    def __init__(self, engine: Mpsse, clock: VirtualClock) -> None:
        self.engine = engine
        self._clock = clock
        self._eeprom = [0xFFFF] * 128
        self.reset()

    def reset(self) -> None:
        """The state after power-up."""
        self.bit_mode = 0
        self.latency = 0.016
        self._timer = self._clock.now()
        self.engine.reset()

    def settle(self) -> None:
        """Let the engine finish all commands it has, if it can."""
        self.engine.run(self._clock.now(), inf)

    def catch_up(self) -> None:
        """Let the engine carry out what it has had the time for."""
        self.engine.run(self._clock.now(), self._clock.now())

    # --- bulk ------------------------------------------------------------------------------

    def write(
        self, data: bytes, timeout: float, starved: Callable[[], bool] = lambda: False
    ) -> int:
        """A bulk OUT transfer; what the FIFO took before a time-out stays taken.

        Args:
            data: the bytes.
            timeout: seconds, 0 for ever.
            starved: asked when nothing moves any more; tells whether somebody has read since.

        Raises:
            TimedOut: not all of it could be taken in ``timeout`` seconds (0: for ever).
        """
        clock, engine = self._clock, self.engine
        start = clock.now()
        limit = start + (timeout or _FOREVER)
        done = start + max(_MICRO_FRAME, len(data) / _RATE)
        if self.bit_mode == _MPSSE_MODE:
            engine.run(start, start)
            engine.feed(data, start)
            while engine.pending > FIFO:
                engine.run(clock.now(), limit, keep=FIFO)
                done = max(done, engine.time)
                if engine.pending > FIFO and (engine.time > limit or not starved()):
                    engine.drop(engine.pending - FIFO)
                    clock.advance_to(limit)
                    raise TimedOut
        clock.advance_to(done)
        return len(data)

    def read(self, size: int, timeout: float) -> bytes:
        """A bulk IN transfer, status bytes included.

        Raises:
            TimedOut: no packet came in ``timeout`` seconds (0: for ever).
            Overflowed: ``size`` is not a multiple of 512 and a longer packet came.
        """
        start = self._clock.now()
        limit = start + (timeout or _FOREVER)
        self.engine.run(start, start)
        parts: list[bytes] = []
        left, now, short = size, start, False
        while left > 0 and not short:
            payload, now = self._packets(left, now, limit)
            short = len(payload[-1]) < _PAYLOAD
            for part in payload:
                if len(part) + 2 > left:
                    raise Overflowed
                parts += (_STATUS, part)
                left -= len(part) + 2
        self._clock.advance_to(max(now, start + max(_MICRO_FRAME, (size - left) / _RATE)))
        return b"".join(parts)

    # --- bulk without waiting: for a server that must not stand still -----------------------

    def offer(self, data: bytes) -> None:
        """Begin a bulk OUT transfer; `taken` tells when it has ended."""
        if self.bit_mode == _MPSSE_MODE:
            self.catch_up()
            self.engine.feed(data, self._clock.now())
        self._clock.advance(max(_MICRO_FRAME, len(data) / _RATE))

    def taken(self) -> bool:
        """Whether the FIFO holds all that was offered; else the device answers NAK for now."""
        engine = self.engine
        if engine.pending > FIFO:
            engine.run(self._clock.now(), inf, keep=FIFO)
            if engine.pending > FIFO:
                return False
            self._clock.advance_to(engine.time)
        return True

    def withdraw(self) -> int:
        """Give up the bulk OUT transfer that was offered; the bytes that were not taken."""
        missing = max(0, self.engine.pending - FIFO)
        self.engine.drop(missing)
        return missing

    def answering(self) -> bool:
        """Whether a bulk IN transfer that begins now gets data, not only status bytes."""
        self.catch_up()
        if not self.engine.inbox:
            self._run_for(1, self._clock.now(), self.deadline)
        return bool(self.engine.inbox)

    @property
    def deadline(self) -> float:
        """When the latency timer next sends what there is, if only status bytes."""
        return self._deadline(self._clock.now())

    # --- packets ---------------------------------------------------------------------------

    def _run_for(self, packets: int, now: float, stop: float) -> None:
        """Let the engine go on for packets until ``stop``."""
        engine = self.engine
        # A stream of full packets keeps the timer from ending.
        stretch = engine.byte_time * _PAYLOAD < self.latency
        want = packets * _PAYLOAD if stretch else _PAYLOAD
        engine.run(now, stop, capacity=max(FIFO, want), want=want, stretch=stretch)

    def _packets(self, left: int, now: float, limit: float) -> tuple[list[bytes], float]:
        """The next packets, as many as are ready at once, and when they were."""
        engine = self.engine
        wanted = max(1, left // PACKET)
        ready = len(engine.inbox) // _PAYLOAD
        if not ready and not engine.flush:
            deadline = self._deadline(now)
            stop = min(deadline, limit)
            if stop > now:
                self._run_for(wanted, now, stop)
            ready = len(engine.inbox) // _PAYLOAD
            if not ready and not (engine.flush and engine.time <= stop):
                if deadline > limit:
                    self._clock.advance_to(limit)
                    raise TimedOut
                self._timer = now = max(now, deadline)
                return [engine.take(min(_PAYLOAD, len(engine.inbox)), now)], now
        self._timer = now = max(now, engine.newest)
        if ready:
            return [engine.take(_PAYLOAD, now) for _ in range(min(ready, wanted))], now
        return [engine.take(min(_PAYLOAD, engine.flush), now)], now

    def _deadline(self, now: float) -> float:
        """When the latency timer next sends what there is."""
        base, latency, inbox = self._timer, self.latency, self.engine.inbox
        since = self.engine.oldest if inbox else now
        ticks = max(1, ceil((since - base) / latency))
        if not inbox and base + ticks * latency <= now:
            ticks += 1
        return base + ticks * latency

    # --- control ---------------------------------------------------------------------------

    def control_out(self, request: int, value: int, index: int) -> None:
        """A vendor request to the device.

        Raises:
            Stalled: no such request.
        """
        self.catch_up()
        self._clock.advance(_MICRO_FRAME)
        if request == 0x00:
            self._purge(value)
        elif request == 0x09:
            self.latency = max(1, value & 0xFF) / 1000
            self._timer = self._clock.now()
        elif request == 0x0B:
            self._set_bit_mode(value >> 8)
        elif request == 0x91:
            self._eeprom[index % 128] = value
        elif request == 0x92:
            self._eeprom = [0xFFFF] * 128
        elif request not in (0x01, 0x02, 0x03, 0x04, 0x06, 0x07):
            raise Stalled

    def control_in(self, request: int, index: int) -> bytes:
        """A vendor request for data.

        Raises:
            Stalled: no such request.
        """
        self.catch_up()
        self._clock.advance(_MICRO_FRAME)
        if request == 0x05:
            return _STATUS
        if request == 0x0A:
            return bytes((round(self.latency * 1000),))
        if request == 0x0C:
            return bytes((self.engine.pins() & 0xFF,))
        if request == 0x90:
            return self._eeprom[index % 128].to_bytes(2, "little")
        raise Stalled

    def _purge(self, which: int) -> None:
        """Reset request: 0 both FIFOs, 1 the commands (host to chip), 2 the answers."""
        if which in (0, 1):
            self.engine.purge_out()
        if which in (0, 2):
            self.engine.purge_in(self._clock.now())
            self._timer = self._clock.now()

    def _set_bit_mode(self, mode: int) -> None:
        if mode != self.bit_mode:
            self.bit_mode = mode
            self.engine.reset()
