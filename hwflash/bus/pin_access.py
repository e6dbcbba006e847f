"""The pins of an FT232H one by one: levels without a clock, loopback, SPI made by hand.

For tests of wires: no other job needs to know that SCK is a pin.

Ref: FTDI AN_108 §3.3 (31h exchanges data both ways), §3.6 (80h to 83h set and read pins), §3.7
(84h connects TDI to TDO inside). Inputs have weak pull-ups (DS_FT232H).
Limits: a level is looked at a fraction of a microsecond after it was set; a line that is slower
than that is read as it was before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from hwflash.bus import mpsse
from hwflash.bus.ftdi import FIFO, Ft232hBus
from hwflash.bus.pins import pin_mask
from hwflash.bus.spi import SpiBus

MISO: Final = 0x04
#: Names of the four SPI lines in the order of this programmer's pins.
SPI: Final[tuple[str, ...]] = ("clk", "mosi", "miso", "cs")

Setting = tuple[int, int]
"""Levels of the outputs, and which pins are outputs: 16 bits each, ACBUS in the high byte."""

_READ: Final = bytes((mpsse.GET_LOW_PINS, mpsse.GET_HIGH_PINS))


class PinAccess:
    """Pins of an open programmer. Every call leaves the pins as they were before it.

    Args:
        bus: the programmer.

    Attributes:
        lines: the mask of each line, 16 bits, by its name: ``clk``, ``mosi``, ``miso``, ``cs``,
            and ``wp``, ``hold``, ``reset`` where a pin is wired to it.
        supply: the mask of the pin that switches the supply, or 0.
    """

    def __init__(self, bus: Ft232hBus) -> None:
        self._bus = bus
        use = bus.use
        pins = use.pins()
        #: The pins while the chip is deselected, and while it is selected.
        self.usual: Setting = (pins.value, pins.direction)
        self.selected: Setting = (pins.value & ~pins.cs, pins.direction)
        self.supply = pin_mask(use.power) if use.power is not None else 0
        self.lines: Mapping[str, int] = {
            "clk": mpsse.SCK, "mosi": mpsse.MOSI, "miso": MISO, "cs": pins.cs,
            **{
                name: pin_mask(pin)
                for name, pin in (("wp", use.wp), ("hold", use.hold), ("reset", use.reset))
                if pin is not None
            },
        }  # fmt: skip

    def levels(self, settings: Sequence[Setting]) -> list[int]:
        """Set the pins and look at all of them, one setting after the other.

        Returns:
            Levels of the 16 pins after each setting.

        Raises:
            ProgrammerLost: the programmer stopped answering.
        """
        found: list[int] = []
        step = FIFO // len(_READ)
        for start in range(0, len(settings), step):
            part = settings[start : start + step]
            stream = b"".join(_set(setting) + _READ for setting in part)
            answer = self._bus.raw(stream, len(_READ) * len(part))
            found += [answer[at] | answer[at + 1] << 8 for at in range(0, len(answer), 2)]
        return found

    def exchange(
        self, data: bytes, setting: Setting | None = None, *, loopback: bool = False
    ) -> bytes:
        """Shift data out and in at once.

        Args:
            data: at most 512 bytes.
            setting: the pins meanwhile; `usual` when None.
            loopback: MISO is MOSI inside the programmer.

        Raises:
            ProgrammerLost: the programmer stopped answering.
        """
        length = len(data) - 1
        stream = bytes((mpsse.LOOPBACK_ON,)) if loopback else b""
        stream += _set(setting or self.usual)
        stream += bytes((mpsse.EXCHANGE_BYTES_MSB, length & 0xFF, length >> 8)) + data
        return self._bus.raw(stream, len(data))

    def by_hand(self, roles: Mapping[str, int], command: bytes, read: int) -> bytes:
        """A transfer in SPI mode 0 on other pins than the engine's, every edge a command.

        Args:
            roles: the mask of the pin for each of `SPI`, all on ADBUS.
            command: bytes that are sent.
            read: bytes that are read.

        Raises:
            ProgrammerLost: the programmer stopped answering.
        """
        clk, mosi, miso, cs = (roles[name] for name in SPI)
        value, direction = self.usual
        used = clk | mosi | miso | cs
        others = direction & ~(mpsse.SCK | mpsse.MOSI | MISO | self.lines["cs"] | used)
        outputs = others | clk | mosi | cs
        rest = value & others
        idle, selected = _low((rest | cs, outputs)), _low((rest, outputs))
        stream = idle + selected
        for bit in (byte >> place & 1 for byte in command for place in range(7, -1, -1)):
            level = rest | (mosi if bit else 0)
            stream += _low((level, outputs)) + _low((level | clk, outputs)) + _low((level, outputs))
        listen = bytes((mpsse.GET_LOW_PINS,)) + _low((rest | clk, outputs)) + selected
        levels = self._bus.raw(stream + listen * (8 * read) + idle, 8 * read)
        bits = "".join("1" if level & miso else "0" for level in levels)
        return int(bits or "0", 2).to_bytes(read)


def _low(setting: Setting) -> bytes:
    value, direction = setting
    return bytes((mpsse.SET_LOW_PINS, value & 0xFF, direction & 0xFF))


def _set(setting: Setting) -> bytes:
    value, direction = setting
    high = bytes((mpsse.SET_HIGH_PINS, value >> 8, direction >> 8))
    return _low(setting) + high


def pin_access(bus: SpiBus) -> PinAccess | None:
    """The pins of a bus, or None where only whole transfers can be made."""
    return PinAccess(bus) if isinstance(bus, Ft232hBus) else None
