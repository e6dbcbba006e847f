"""SPI through an FT232H, driven with pyftdi.

pyftdi opens the device, resets it and sets bit mode, latency and line state; the MPSSE stream
is ours (`hwflash.bus.mpsse`), because the unit here is a batch of many transactions.

Ref: FTDI AN_108; FT232H data sheet (DS_FT232H) §4.1: 1 KiB FIFO in each direction.
Limits: SPI mode 0, single data line, one interface (the FT232H has one).
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import usb.core
import usb.util
from pyftdi.ftdi import Ftdi, FtdiError, FtdiMpsseError

from hwflash.bus import mpsse
from hwflash.bus.pins import PinUse, pin_mask
from hwflash.bus.spi import BusStats, Clock, Op, RealClock, Transfer
from hwflash.bus.usb_faults import kernel_driver, let_go_of, usb_error
from hwflash.errors import (
    ProgrammerBusy,
    ProgrammerError,
    ProgrammerLost,
    UsageError,
)

_log = logging.getLogger(__name__)
_usb_util: Any = usb.util  # PyUSB carries no annotations

#: Both FIFOs have 1 KiB; some of it is left alone. See `hwflash.bus.mpsse.Compiler`.
FIFO: Final = 900
#: A batch of 256 pages is one stream.
STREAM_LIMIT: Final = 131072
#: One bulk request for streamed data. Linux splits it into 16 KiB pieces by itself.
READ_REQUEST: Final = 65536
PACKET: Final = 512
STATUS: Final = 2
CLOCKED_WAIT_LIMIT: Final = 0.020
#: Patience beyond the time the wire needs, before the programmer counts as lost.
PATIENCE: Final = 2.0
MAX_FREQUENCY: Final = 30e6

_READ_COMMANDS_PER_WRITE: Final = FIFO // 2 // 3


class Ft232hBus:
    """`hwflash.bus.spi.SpiBus` over one FT232H.

    Args:
        device: the `usb.core.Device`. Opening by object, not by URL, lets several programmers,
            simulated ones among them, live in one process: pyftdi keeps devices found by
            URL in a process-wide cache.
        frequency: highest SCK in hertz; the next lower one that the divisor gives is used.
        pins: what is wired where.
        latency: latency timer in milliseconds.
        idle: begin as `let_go` leaves the pins, the board without supply, instead of driven.
        timer_waits: wait on the computer's clock instead of clocking SCK with the chip
            deselected, for buses with other listeners.
        clock: time; virtual for simulated devices.
        name: how messages call this programmer.

    Attributes:
        clock: the clock given.
        stats: what was carried so far.
        frequency: SCK in hertz, as the divisor gives it.
        use: which pins do what.

    Raises:
        ProgrammerInaccessible: no permission.
        ProgrammerBusy: held by somebody else.
        ProgrammerAbsent: not there any more.
        ProgrammerError: it is there and does not behave as an FT232H (``programmer.sync``).
    """

    def __init__(
        self,
        device: Any,
        *,
        frequency: float = MAX_FREQUENCY,
        pins: PinUse | None = None,
        latency: int = 16,
        timer_waits: bool = False,
        idle: bool = False,
        clock: Clock | None = None,
        name: str = "FT232H",
    ) -> None:
        self._name = name
        self.clock = clock or RealClock()
        self.use = use = pins or PinUse()
        self._pins = use.pins()
        self._supply = pin_mask(use.power) if use.power is not None else 0
        self._let_go = idle
        #: What the pins are while nothing is carried out.
        self._now = self._released(supply=False) if idle else self._pins
        self._timer_waits = timer_waits
        self.stats = BusStats()
        self._broken: ProgrammerError | None = None
        self._ftdi: Any = Ftdi()
        self._device: Any = device
        self._open(device, latency)
        try:
            self._synchronise()
            self.set_frequency(frequency)
        except (ProgrammerError, UsageError):
            self.close()
            raise

    # --- the protocol -----------------------------------------------------------------

    def execute(self, ops: Sequence[Op], /) -> list[bytes]:
        """Carry out a batch; see `hwflash.bus.spi.SpiBus.execute`."""
        if self._let_go and self._broken is None:
            raise ProgrammerBusy(
                f"{self._name} has let go of the chip: the board has it",
                code="programmer.let-go",
                device=self._name,
            )
        answers = bytearray()
        with self._unbroken():
            for step in self._compiler.compile(ops):
                if isinstance(step, mpsse.Round):
                    answers += self._round(step)
                elif isinstance(step, mpsse.Streaming):
                    answers += self._streaming(step)
                else:
                    self.clock.sleep(step.seconds)
        return self._deal_out(ops, bytes(answers))

    def raw(self, stream: bytes, reply: int) -> bytes:
        """Carry out MPSSE commands, whoever has the chip; the pins are then as they were before.

        Args:
            stream: commands.
            reply: bytes that they answer, at most `FIFO`.

        Raises:
            ProgrammerLost: the programmer stopped answering.
        """
        with self._unbroken():
            back = mpsse.LOOPBACK_OFF, *self._now.deselect, *self._now.high
            self._write(stream + bytes((mpsse.SEND_IMMEDIATE, *back)), 0.0)
            return self._collect(reply, len(stream) * 8 / self.frequency)

    @contextmanager
    def _unbroken(self) -> Generator[None]:
        """Nothing is sent to a programmer that failed once: what it is doing is not known."""
        if self._broken is not None:
            raise self._broken
        try:
            yield
        except ProgrammerError as exc:
            self._broken = exc
            raise
        except (usb.core.USBError, FtdiError) as exc:
            self._broken = usb_error(exc, self._name)
            raise self._broken from exc

    def set_frequency(self, hertz: float, /) -> None:
        """Change SCK; the divisor's next lower frequency is used.

        Raises:
            UsageError: it cannot be so slow (``usage.frequency``).
            ProgrammerLost: the programmer stopped answering.
        """
        divisor = mpsse.divisor_for(hertz)
        with self._unbroken():
            self._write(bytes((mpsse.SET_DIVISOR, divisor & 0xFF, divisor >> 8)), 0.0)
        self.frequency = mpsse.frequency_of(divisor)
        self._compiler = mpsse.Compiler(
            self._pins,
            self.frequency,
            fifo=FIFO,
            stream_limit=STREAM_LIMIT,
            clocked_wait_limit=0.0 if self._timer_waits else CLOCKED_WAIT_LIMIT,
        )

    def drive(self, on: bool) -> None:
        """Drive the pins, or make every one an input so that the board has its chip.

        Operations need driven pins.

        Raises:
            ProgrammerLost: the programmer stopped answering.
        """
        self._let_go = False
        self._set_pins(self._pins if on else mpsse.Pins(self._pins.value, 0, self._pins.cs))

    def let_go(self, *, supply: bool, reset: bool = False) -> None:
        """Make every pin an input but the one that switches the board's supply.

        The board has its chip and runs by itself, or is without supply. Nothing is carried out
        before `drive`.

        Args:
            supply: level of that pin, if there is one.
            reset: go on holding the board's processor in reset, if a pin does.

        Raises:
            ProgrammerLost: the programmer stopped answering.
        """
        self._let_go = True
        held = self.use.reset if reset else None
        self._set_pins(self._released(supply=supply, held=pin_mask(held) if held else 0))

    @property
    def switches_supply(self) -> bool:
        """Whether a pin switches the board's supply."""
        return self._supply != 0

    def _released(self, *, supply: bool, held: int = 0) -> mpsse.Pins:
        return mpsse.Pins(self._supply if supply else 0, self._supply | held, self._pins.cs)

    def _set_pins(self, pins: mpsse.Pins) -> None:
        """Set the pins as they are while nothing is carried out."""
        with self._unbroken():
            self._now = pins
            self._write(pins.deselect + pins.high, 0.0)

    def close(self) -> None:
        """Deselect the chip, make every pin an input again and let the device go."""
        if self._ftdi.is_connected:
            if self._broken is None:
                try:
                    # Commands still in the device's FIFO would be lost with the bit mode:
                    # an answer proves that all before it were carried out.
                    pins = bytes((mpsse.GET_LOW_PINS, mpsse.SEND_IMMEDIATE))
                    self._write(self._now.deselect + pins, 0.0)
                    self._collect(1, 0.0)
                except (usb.core.USBError, FtdiError, ProgrammerError) as exc:
                    _log.warning("%s: could not deselect the chip: %s", self._name, exc)
            self._ftdi.close()  # bit mode reset: every pin floats
        if self._device is not None:
            _usb_util.dispose_resources(self._device)
            self._device = None
        if self._broken is None:
            self._broken = ProgrammerLost(f"{self._name} has been closed", device=self._name)

    # --- opening ----------------------------------------------------------------------

    def _open(self, device: Any, latency: int) -> None:
        detached: int | None = None
        try:
            # pyftdi hides libusb's error numbers; asking first keeps absent, inaccessible
            # and busy apart.
            configuration = device.get_active_configuration()
            interface = configuration[(0, 0)].bInterfaceNumber
            if kernel_driver(device, interface):
                device.detach_kernel_driver(interface)
                detached = interface
            _usb_util.claim_interface(device, interface)
            self._endpoint_in = next(
                endpoint.bEndpointAddress
                for endpoint in configuration[(0, 0)]
                if endpoint.bEndpointAddress & 0x80
            )
            self._ftdi.open_mpsse_from_device(
                device,
                direction=0,  # latches first: a pin driven before its level is set would dip
                initial=self._now.value,
                frequency=1e6,
                latency=latency,
            )
            self._ftdi.write_data_set_chunksize(STREAM_LIMIT)
        except (FtdiMpsseError, KeyError, StopIteration) as exc:
            let_go_of(device, detached)
            raise ProgrammerError(
                f"{self._name} has no MPSSE engine behind a bulk interface",
                code="programmer.sync",
                device=self._name,
            ) from exc
        except (usb.core.USBError, FtdiError) as exc:
            let_go_of(device, detached)
            raise usb_error(exc, self._name, opening=True) from exc

    def _synchronise(self) -> None:
        """Prove that the engine listens: a bad command must be answered FA and its opcode."""
        try:
            self._drain()
            self._write(bytes((mpsse.SYNC_OPCODE, mpsse.SEND_IMMEDIATE)), 0.0)
            found = self._collect(2, 0.0)
            expected = bytes((mpsse.BAD_COMMAND, mpsse.SYNC_OPCODE))
            if found != expected:
                raise ProgrammerError(
                    f"{self._name} answered {found.hex()} instead of {expected.hex()}: "
                    "its MPSSE engine does not run",
                    code="programmer.sync",
                    device=self._name,
                    found=found.hex(),
                )
            self._write(mpsse.SETUP + self._now.deselect + self._now.high, 0.0)
        except (usb.core.USBError, FtdiError) as exc:
            raise usb_error(exc, self._name) from exc

    # --- moving bytes -----------------------------------------------------------------

    def _round(self, step: mpsse.Round) -> bytes:
        if not step.reply:
            self._write(step.stream, step.seconds)
            return b""
        self._write(step.stream + bytes((mpsse.SEND_IMMEDIATE,)), step.seconds)
        return self._collect(step.reply, step.seconds)

    def _streaming(self, step: mpsse.Streaming) -> bytes:
        """Read more than the FIFO holds, with commands queued ahead so that SCK never rests.

        Chip select is a pin: it stays low between rounds, so one read command on the chip
        serves a range of any length. Commands not yet executed never exceed the OUT FIFO,
        so no write can block while replies stand unread.
        """
        counts = [mpsse.MAX_SHIFT] * (step.read // mpsse.MAX_SHIFT)
        if step.read % mpsse.MAX_SHIFT:
            counts.append(step.read % mpsse.MAX_SHIFT)
        self._write(step.head, 0.0)
        pieces: list[bytes] = []
        posted = received = next_count = 0
        while received < step.read:
            pending = -(-(posted - received) // mpsse.MAX_SHIFT)
            if next_count < len(counts) and pending < _READ_COMMANDS_PER_WRITE:
                batch = counts[next_count : next_count + _READ_COMMANDS_PER_WRITE]
                next_count += len(batch)
                posted += sum(batch)
                stream = b"".join(mpsse.read_bytes(count) for count in batch)
                if next_count == len(counts):
                    stream += step.tail + bytes((mpsse.SEND_IMMEDIATE,))
                self._write(stream, 0.0)
            want = min(READ_REQUEST, -(-(posted - received) // (PACKET - STATUS)) * PACKET)
            piece = self._read_some(want, want * 8 / self.frequency)
            received += len(piece)
            pieces.append(piece)
        if received > step.read:
            raise self._surplus(step.read, received)
        return b"".join(pieces)

    def _write(self, stream: bytes, seconds: float) -> None:
        _, write_timeout = self._ftdi.timeouts
        needed = int((seconds * 2 + PATIENCE) * 1000)
        if needed > write_timeout:
            self._ftdi.timeouts = (needed, needed)
        self._ftdi.write_data(stream)
        self.stats.usb_out += -(-len(stream) // STREAM_LIMIT)
        self.stats.bytes_out += len(stream)

    def _collect(self, count: int, seconds: float) -> bytes:
        """Exactly ``count`` reply bytes; the engine must have been told to send."""
        found = b""
        while len(found) < count:
            missing = count - len(found)
            want = -(-missing // (PACKET - STATUS)) * PACKET
            found += self._read_some(want, seconds)
        if len(found) > count:
            raise self._surplus(count, len(found))
        return found

    def _read_some(self, request: int, seconds: float) -> bytes:
        """At least one reply byte, within ``seconds`` of wire time and some patience."""
        patience = seconds * 2 + PATIENCE
        deadline = self.clock.now() + patience
        while True:
            payload = self._read_once(request, patience)
            if payload:
                return payload
            if self.clock.now() > deadline:
                raise ProgrammerLost(
                    f"{self._name} sends no more data",
                    code="programmer.short-read",
                    device=self._name,
                )

    def _read_once(self, request: int, patience: float = PATIENCE) -> bytes:
        # Below Ftdi.read_data_bytes: that strips the status bytes packet by packet into a
        # growing bytearray in 16 KiB requests, and gives short data without a word.
        raw = self._ftdi.usb_dev.read(self._endpoint_in, request, int(patience * 1000))
        self.stats.usb_in += 1
        self.stats.bytes_in += len(raw)
        view = memoryview(raw)
        if len(view) <= PACKET:
            return bytes(view[STATUS:])
        return b"".join(
            [view[start + STATUS : start + PACKET] for start in range(0, len(view), PACKET)]
        )

    def _drain(self) -> None:
        """Throw away what a former user of the device left, a bounded amount of it."""
        for _ in range(16):
            if not self._read_once(READ_REQUEST):
                return

    def _surplus(self, expected: int, found: int) -> ProgrammerLost:
        return ProgrammerLost(
            f"{self._name} sent {found} bytes where {expected} were due: "
            "it is out of step with the commands",
            code="programmer.out-of-step",
            device=self._name,
            expected=expected,
            found=found,
        )

    def _deal_out(self, ops: Sequence[Op], answers: bytes) -> list[bytes]:
        dealt: list[bytes] = []
        position = 0
        for op in ops:
            count = op.read if isinstance(op, Transfer) else 0
            dealt.append(answers[position : position + count])
            position += count
            if isinstance(op, Transfer):
                self.stats.sck_bytes += len(op.write) + op.read
        return dealt
