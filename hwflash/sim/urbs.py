"""Transfers that wait, in front of a simulated FT232H: what a host controller does.

`SimulatedUsb` alone lets a call last as long as it needs, in virtual time. A computer that
reaches the device through a network lives in real time, has several transfers under way at
once and takes some back. `UrbQueue` brings the two together:

* Virtual time is never behind real time: before anything is looked at, the clock moves on by
  what has passed since, so that a program which sleeps finds an erase as far as it waited.
* Virtual time may be ahead: data that the chip delivers after 30 ms are delivered at once. The
  only thing that waits in real time is a packet without data, which a device with nothing to say
  sends each latency period; at once, it would keep both sides busy for nothing.
* A bulk OUT transfer ends when the FIFO has taken it. While it cannot, the device answers NAK and
  the transfer waits, for a bulk IN transfer that makes room, or for being taken back.

Error numbers are those of Linux, as USB/IP carries them.
"""

from __future__ import annotations

import errno
import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import usb.core

from hwflash.sim.clock import VirtualClock
from hwflash.sim.endpoint0 import IN_ENDPOINT
from hwflash.sim.ft232h import Overflowed
from hwflash.sim.usb import Handle, SimulatedUsb
from hwflash.sim.usbip_wire import Nonsense, Urb

#: Transfers under way at once, and bytes that wait to go out. No driver comes near.
MAX_URBS: Final = 1024
MAX_BYTES: Final = 64 << 20

_IN: Final = IN_ENDPOINT & 0x0F
_OUT: Final = 0x02
_ROUNDING: Final = 1e-6
_PORT_RESET: Final = bytes.fromhex("23030400")  # to the hub the device is on


class Unplugged(Exception):
    """The device is not there any more."""


@dataclass(frozen=True, slots=True)
class Done:
    """A transfer that has ended.

    Attributes:
        urb: the transfer.
        status: 0 or a negative error number.
        actual: bytes transferred.
        data: those that go to the client.
    """

    urb: Urb
    status: int
    actual: int
    data: bytes = b""


class UrbQueue:
    """The transfers of one client that has the device.

    Args:
        usb: the device; nobody else may use it meanwhile.
        clock: its clock.
        real: real time in seconds.

    Raises:
        usb.core.USBError: the device cannot be opened.
    """

    def __init__(
        self, usb: SimulatedUsb, clock: VirtualClock, real: Callable[[], float] = time.monotonic
    ) -> None:
        self._usb = usb
        self._clock = clock
        self._real = real
        # The clock moves by itself when a transfer takes time; real time has then to catch up.
        self._anchor = (real(), clock.now())
        self._handle: Handle = usb.open_device(usb)
        usb.kernel_driver = False  # the operating system of the exporting side gave it up
        usb.claim_interface(self._handle, 0)
        self._out: deque[Urb] = deque()
        self._in: deque[Urb] = deque()
        self._begun: int | None = None  # seqnum of the bulk OUT transfer that has begun
        self._bytes = 0

    def close(self) -> None:
        """Forget all transfers; the device is reset, its pins float."""
        self._out.clear()
        self._in.clear()
        self._clock.advance_to(self._now())
        if self._usb.plugged:
            self._usb.chip.catch_up()
        if self._usb.plugged:  # no power cut was among what it caught up with
            self._usb.reset_device(self._handle)
        self._usb.close_device(self._handle)

    @property
    def pending(self) -> int:
        """Transfers under way."""
        return len(self._out) + len(self._in)

    def delay(self) -> float | None:
        """Real seconds until `advance` has something to do by itself; None for never."""
        if not self._in:
            return None
        return max(0.0, self._usb.chip.deadline - self._now())

    # --- requests --------------------------------------------------------------------------

    def submit(self, urb: Urb) -> list[Done]:
        """Take a transfer; those that ended are given back, this one perhaps among them.

        Raises:
            Unplugged: the device is gone.
            Nonsense: too many transfers, or a number that is in use.
        """
        if self.pending >= MAX_URBS or self._bytes + len(urb.data) > MAX_BYTES:
            raise Nonsense("too many transfers at once")
        if any(urb.seqnum == other.seqnum for other in (*self._out, *self._in)):
            raise Nonsense(f"transfer {urb.seqnum} is under way already")
        done = self.advance()
        if urb.endpoint == 0:
            done.append(self._control(urb))
        elif urb.endpoint == _OUT and not urb.incoming:
            self._out.append(urb)
            self._bytes += len(urb.data)
        elif urb.endpoint == _IN and urb.incoming:
            try:
                self._usb.begin_in(self._handle)
            except usb.core.USBError as exc:
                done.append(Done(urb, self._status(exc), 0))
            else:
                self._in.append(urb)
        else:
            done.append(Done(urb, -errno.EPIPE, 0))
        return done + self.advance()

    def unlink(self, seqnum: int) -> tuple[bool, list[Done]]:
        """Take a transfer back.

        Returns:
            Whether it was still under way, and transfers that ended by now.

        Raises:
            Unplugged: the device is gone.
        """
        done = self.advance()
        for queue in (self._in, self._out):
            for urb in queue:
                if urb.seqnum == seqnum:
                    queue.remove(urb)
                    self._bytes -= len(urb.data)
                    if self._begun == seqnum:
                        self._usb.chip.withdraw()
                        self._begun = None
                    return True, done + self.advance()
        return False, done

    def advance(self) -> list[Done]:
        """Let time pass up to now, and end what has come to its end.

        Raises:
            Unplugged: the device is gone.
        """
        done: list[Done] = []
        now = self._now()
        # What the latency timer did in the time that has passed comes first.
        while self._in and self._due(now) and not self._usb.chip.answering():
            done.append(self._finish_in())
        self._clock.advance_to(now)
        while self._push_out(done) or self._pull_in(done):
            self._check()
        self._check()
        self._anchor = (self._real(), self._clock.now())
        return done

    # --- transfers -------------------------------------------------------------------------

    def _push_out(self, done: list[Done]) -> bool:
        """One step of the bulk OUT transfers; whether anything moved."""
        if not self._out:
            return False
        urb = self._out[0]
        if self._begun is None:
            try:
                self._usb.begin_out(self._handle, urb.data)
            except usb.core.USBError as exc:
                done.append(Done(urb, self._status(exc), 0))
                self._pop_out()
                return True
            self._begun = urb.seqnum
        if not self._usb.chip.taken():
            return False
        done.append(Done(urb, 0, len(urb.data)))
        self._pop_out()
        return True

    def _pop_out(self) -> None:
        self._bytes -= len(self._out.popleft().data)
        self._begun = None

    def _pull_in(self, done: list[Done]) -> bool:
        """One bulk IN transfer, if there are data for it."""
        if not self._in or not self._usb.chip.answering():
            return False
        done.append(self._finish_in())
        return True

    def _finish_in(self) -> Done:
        urb = self._in.popleft()
        try:
            data = self._usb.finish_in(self._handle, urb.length)
        except Overflowed:
            return Done(urb, -errno.EOVERFLOW, 0)
        except usb.core.USBError as exc:
            return Done(urb, self._status(exc), 0)
        return Done(urb, 0, len(data), data)

    def _control(self, urb: Urb) -> Done:
        kind, request = urb.setup[0], urb.setup[1]
        value, index, length = (
            int.from_bytes(urb.setup[place : place + 2], "little") for place in (2, 4, 6)
        )
        if bool(kind & 0x80) != urb.incoming and length:
            return Done(urb, -errno.EPIPE, 0)
        incoming = bool(kind & 0x80)
        size = min(length, urb.length)
        buffer = array("B", bytes(size) if incoming else urb.data[:size])
        try:
            if urb.setup[:4] == _PORT_RESET:
                self._usb.reset_device(self._handle)
                return Done(urb, 0, 0)
            count = self._usb.ctrl_transfer(self._handle, kind, request, value, index, buffer, 1000)
        except usb.core.USBError as exc:
            return Done(urb, self._status(exc), 0)
        return Done(urb, 0, count, buffer[:count].tobytes() if incoming else b"")

    def _due(self, now: float) -> bool:
        # Sums of real and virtual seconds are not exact.
        return self._usb.chip.deadline <= now + _ROUNDING

    # --- presence and time -----------------------------------------------------------------

    def _now(self) -> float:
        """Virtual time if only real time had passed since the last look, or later."""
        real, virtual = self._anchor
        return max(self._clock.now(), virtual + self._real() - real)

    def _check(self) -> None:
        try:
            self._usb.present(self._handle)
        except usb.core.USBError as exc:
            raise Unplugged from exc

    def _status(self, error: usb.core.USBError) -> int:
        """The status of a transfer that failed.

        Raises:
            Unplugged: it failed because the device is gone.
        """
        if error.errno == errno.ENODEV:
            raise Unplugged from error
        return -(error.errno or errno.EIO)
