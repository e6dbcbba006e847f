"""QEMU's SPI flash models as a bus: a chip that nobody here wrote.

The chip sits on the FMC of an Aspeed AST2500, in user mode: writes to the flash window shift
bytes out, reads shift bytes in, a control register moves CS#. There is no guest CPU.

Ref: QEMU 7.2 hw/ssi/aspeed_smc.c, hw/block/m25p80.c; AST2500 data sheet, chapter FMC.
Limits: time is not QEMU's but counted here, one SCK period a bit; a model is never busy, so a
`Wait` moves the clock and nothing else. Registers are back at their defaults at every start:
an image keeps the memory only. QEMU does not lock the image; whoever opens the bus must. What
the models do unlike hardware: ``docs/qemu-chips.md``.
"""

from __future__ import annotations

import base64
import difflib
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from hwflash.bus.qtest import PROGRAM, SILENCE, QemuProcess, abilities, find_program
from hwflash.bus.spi import BusStats, Op, Transfer
from hwflash.errors import (
    EnvironmentFault,
    HwflashError,
    ImageError,
    ProgrammerError,
    UsageError,
)

MACHINE: Final = "ast2500-evb"
DEFAULT_FREQUENCY: Final = 30e6

_FMC: Final = 0x1E620000
_WINDOW: Final = 0x20000000
_CONF_WRITABLE: Final = 1 << 16  # chip select 0 may be written
_CONF_SPI: Final = 2  # type of chip select 0
_CE_CONTROL: Final = _FMC + 0x04  # bit 0: 4-byte addresses on chip select 0
_CONTROL_0: Final = _FMC + 0x10
_SELECT: Final = b"writel %#x 0x3" % _CONTROL_0  # user mode, CS# low
_DESELECT: Final = b"writel %#x 0x7" % _CONTROL_0  # user mode, CS# high
#: One window access; more would leave the window's segment.
_PIECE: Final = 1 << 18
#: Fast reads with one data line. The controller looks for these opcodes and turns the dummy
#: byte behind the address into the eight that QEMU's models count. For that it must know the
#: width of the address, and gets nothing in front of the dummy byte in the same access.
_WATCHED: Final = frozenset({0x0B, 0x0C})

_LARGEST: Final = 1 << 28
_SMALLEST: Final = 1 << 12


class SckClock:
    """Virtual time: SCK periods and waits. It moves only when the bus says so."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        """Seconds since the bus was opened."""
        return self._now

    def sleep(self, seconds: float, /) -> None:
        """Let ``seconds`` pass at once; a negative span is none."""
        self._now += max(seconds, 0.0)


class QemuSpiBus:
    """`hwflash.bus.spi.SpiBus` to a flash model inside QEMU.

    Args:
        model: QEMU's name of the chip, such as ``w25q256``.
        image: file that holds the chip's content. None is an erased chip that is forgotten at
            the end; a file that does not exist is made, of FF.
        frequency: SCK in hertz, which the clock counts by.
        program: the QEMU program.
        silence: seconds without an answer after which QEMU is given up.

    Attributes:
        model: as given.
        version: QEMU's version.
        machine: the process.

    Raises:
        EnvironmentFault: QEMU is missing (``environment.qemu-missing``) or cannot do it
            (``environment.qemu-version``); the image cannot be used (``qemu.image-unusable``).
        UsageError: QEMU has no such model (``usage.qemu-model``).
        ImageError: the image is smaller than the chip (``qemu.image-size``).
        ProgrammerError: QEMU does not start (``programmer.qemu-start``).
    """

    def __init__(
        self,
        model: str,
        image: Path | None = None,
        *,
        frequency: float = DEFAULT_FREQUENCY,
        program: str = PROGRAM,
        silence: float = SILENCE,
    ) -> None:
        self.model = model
        self._program, self.version = _suitable(find_program(program), model)
        self._silence = silence
        self.clock = SckClock()
        self._stats = BusStats()
        self.frequency = DEFAULT_FREQUENCY
        self.set_frequency(frequency)
        self._wide = False
        self._closed = False
        self.machine = self._open(image)

    @property
    def stats(self) -> BusStats:
        """What was carried: bursts of qtest commands count as one transfer each way."""
        qtest = self.machine.qtest
        self._stats.usb_out = self._stats.usb_in = qtest.bursts
        self._stats.bytes_out, self._stats.bytes_in = qtest.sent, qtest.received
        return self._stats

    def set_frequency(self, hertz: float, /) -> None:
        """Count by another SCK; any is possible.

        Raises:
            UsageError: it is not above 0 (``usage.frequency``).
        """
        if hertz <= 0:
            raise UsageError(f"{hertz:g} Hz is no clock", code="usage.frequency", frequency=hertz)
        self.frequency = hertz

    def execute(self, ops: Sequence[Op], /) -> list[bytes]:
        """Carry out a batch; see `hwflash.bus.spi.SpiBus.execute`.

        Raises:
            ProgrammerLost: QEMU ended (``programmer.qemu-lost``) or hangs
                (``programmer.qemu-timeout``).
            ProgrammerError: it refuses a command (``programmer.qtest``).
        """
        commands: list[bytes] = []
        places: list[range] = []
        bits = 0
        waits = 0.0
        for op in ops:
            start = len(commands)
            if isinstance(op, Transfer):
                commands += self._select(op.write)
                start = len(commands)
                commands += _reads(op.read)
                places.append(range(start, len(commands)))
                commands.append(_DESELECT)
                bits += 8 * (len(op.write) + op.read)
            else:
                places.append(range(start, start))
                waits += max(op.seconds, 0.0)
        answers = self.machine.execute(commands)
        self._stats.sck_bytes += bits // 8
        self.clock.sleep(bits / self.frequency + waits)
        return [b"".join(base64.b64decode(answers[i]) for i in place) for place in places]

    def close(self) -> None:
        """End QEMU; the image is complete afterwards. May be called twice.

        Raises:
            ProgrammerLost: QEMU did not end well (``programmer.qemu-lost``).
        """
        if not self._closed:
            self._closed = True
            self.machine.close()

    # --- inside -------------------------------------------------------------------------

    def _select(self, data: bytes) -> list[bytes]:
        """CS# low, and the bytes shifted out."""
        if data[:1] and data[0] in _WATCHED and len(data) in (5, 6):
            commands: list[bytes] = []
            wide = len(data) == 6
            if wide != self._wide:
                commands.append(b"writel %#x %#x" % (_CE_CONTROL, wide))
                self._wide = wide
            single = [b"writeb %#x %#x" % (_WINDOW, value) for value in data]
            return [*commands, _SELECT, *single]
        pieces = (data[place : place + _PIECE] for place in range(0, len(data), _PIECE))
        return [
            _SELECT,
            *(
                b"b64write %#x %#x %s" % (_WINDOW, len(piece), base64.b64encode(piece))
                for piece in pieces
            ),
        ]

    def _open(self, image: Path | None) -> QemuProcess:
        if image is None:
            return self._start(None)
        image = image.absolute()
        _usable(image)
        try:
            found = image.stat().st_size
        except FileNotFoundError:
            _make(image, self._chip_size())
            return self._start(image)
        except OSError as exc:
            raise _unusable(image, exc) from exc
        try:
            return self._start(image)
        except ProgrammerError as exc:
            if exc.code != "programmer.qemu-start" or found >= (size := self._chip_size()):
                raise
            raise ImageError(
                f"{image} has {found:,} bytes, {self.model} has {size:,}",
                code="qemu.image-size",
                path=str(image),
                found=found,
                expected=size,
            ) from exc

    def _start(self, image: Path | None) -> QemuProcess:
        arguments = ["-machine", f"{MACHINE},fmc-model={self.model}"]
        if image is not None:
            name = str(image).replace(",", ",,")
            arguments += ["-drive", f"if=mtd,index=0,format=raw,file={name}"]
        machine = QemuProcess(
            self._program, arguments, name=f"QEMU with {self.model}", silence=self._silence
        )
        try:
            conf = int(machine.execute([b"readl %#x" % _FMC])[0], 16)
            conf |= _CONF_WRITABLE | _CONF_SPI
            machine.execute([b"writel %#x %#x" % (_FMC, conf), _DESELECT])
        except BaseException:
            with suppress(HwflashError):
                machine.close()
            raise
        return machine

    def _chip_size(self) -> int:
        """The size of the model, found with an empty one: where address 0 shows up again."""
        machine = self._start(None)
        sizes = [1 << bit for bit in range(_SMALLEST.bit_length() - 1, _LARGEST.bit_length())]
        steps = [b"\x06", b"\xb7", b"\x02\0\0\0\0\0"]
        try:
            commands = [line for step in steps for line in (*self._select(step), _DESELECT)]
            machine.execute(commands)
            for size in sizes:
                read = [*self._select(b"\x03" + size.to_bytes(4, "big")), *_reads(1), _DESELECT]
                if base64.b64decode(machine.execute(read)[-2]) == b"\0":
                    return size
        finally:
            machine.close()
        raise ImageError(
            f"the size of {self.model} cannot be told; make the image yourself, of FF",
            code="qemu.image-size",
            model=self.model,
        )


def _reads(length: int) -> Iterable[bytes]:
    for place in range(0, length, _PIECE):
        yield b"b64read %#x %#x" % (_WINDOW, min(_PIECE, length - place))


def _suitable(program: str, model: str) -> tuple[str, str]:
    """The program's path and version, if it has the machine and the model."""
    found = abilities(program, MACHINE)
    if "fmc-model" not in found.machine_properties or not found.flash_models:
        raise EnvironmentFault(
            f"{program} {found.version} has no machine {MACHINE} with a choice of flash",
            code="environment.qemu-version",
            program=program,
            version=found.version,
        )
    if model not in found.flash_models:
        known = sorted(found.flash_models)
        raise UsageError(
            f"QEMU {found.version} has no flash model {model!r}",
            code="usage.qemu-model",
            model=model,
            known=known,
            near=difflib.get_close_matches(model.casefold(), known, n=5, cutoff=0.5),
        )
    return program, found.version


def _usable(image: Path) -> None:
    """Refuse an image that cannot be written, before QEMU finds out in its own words."""
    there = image.exists()
    place = image if there else image.parent
    reason = (
        "is no file" if there and not image.is_file()
        else "does not exist" if not place.exists()
        else "cannot be written" if not os.access(place, os.R_OK | os.W_OK)
        else None
    )  # fmt: skip
    if reason is not None:
        raise EnvironmentFault(f"{place} {reason}", code="qemu.image-unusable", path=str(image))


def _make(image: Path, size: int) -> None:
    """An erased chip; there as a whole or not at all."""
    part = image.with_name(image.name + ".part")
    try:
        try:
            with part.open("wb") as stream:
                block = b"\xff" * min(size, 1 << 20)
                for _ in range(size // len(block)):
                    stream.write(block)
            part.replace(image)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as exc:
        raise _unusable(image, exc) from exc


def _unusable(image: Path, error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"{image} cannot be used: {error.strerror}", code="qemu.image-unusable", path=str(image)
    )
