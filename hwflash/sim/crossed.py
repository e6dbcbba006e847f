"""Wires that do not go where they should, level by level.

Every pin of the programmer is a net. A pin of the chip hangs on the net that the wiring gives it,
or on none; nets may touch, or be shorted to a rail. Each change of a level is seen by the chip as
it is: a CLK that is wired to CS# selects it, a MOSI that is wired to CLK clocks it.

Where two drive a net, low wins (an N channel is the stronger one); what nobody drives is pulled
high, or, with the supply rail at ground, clamped low by the chip.

Limits: levels only, no rise times. Another master's own traffic is on CLK, CS# and MOSI (all ones);
between two looks of the programmer nothing of it is carried out.
"""

from __future__ import annotations

from typing import Final

from hwflash.sim.faults import Faults
from hwflash.sim.wiring import CS, MISO, MOSI, SCK, Wiring

_LINES: Final = {"clk": SCK, "mosi": MOSI, "miso": MISO, "cs": CS}
_FOUR: Final = SCK | MOSI | MISO | CS
#: Edges a second of another master while it reads its chip, and how many a burst and a pause have.
_MASTER_EDGES: Final = 1e6
_MASTER_BURST: Final = 32


def crosses(faults: Faults) -> bool:
    """Whether faults need this wiring instead of the straight one."""
    stuck = faults.stuck.split("-")[0] in ("clk", "mosi", "cs")
    cut = faults.open not in ("", "wp", "hold")
    return bool(faults.swap or faults.short or faults.supply or faults.master or stuck or cut)


class CrossedWiring(Wiring):
    """As `Wiring`, through nets."""

    bitwise = True

    def _start(self) -> None:
        faults = self._faults
        self.plain = False
        self._home = {**_LINES, "wp": self._wp, "hold": self._hold}
        for pair in filter(None, faults.swap.split("+")):
            one, other = pair.split("-")
            self._home[one], self._home[other] = self._home[other], self._home[one]
        self._lively = any(line in faults.swap for line in ("wp", "hold"))
        if faults.open or faults.cs:
            self._home[faults.open.split("-")[0] or "cs"] = 0
        self._rest = {
            "clk": False, "mosi": True, "cs": faults.cs != "low",
            "wp": self._wp_strap, "hold": faults.hold != "low",
        }  # fmt: skip
        self._touching = sum(_LINES[line] for line in faults.short.split("-") if line)
        line, _, level = faults.stuck.partition("-")
        self._stuck = {**_LINES, "wp": self._wp, "hold": self._hold}.get(line, 0)
        self._stuck_high = level == "high"
        self._pull = 0xFFFF if faults.supply != "off" else 0xFFFF & ~_FOUR
        self._mastered = _mask_of(faults.master.removesuffix("-still"))
        self._still = faults.master.endswith("-still")
        moved = any(self._home[line] != net for line, net in _LINES.items())
        held = self._touching or self._stuck & _FOUR or faults.supply or faults.reset
        #: The four lines are as they should be, while no other master drives them.
        self._straight = not moved and not held
        self._cs, self._clk = True, False
        self._out: int | None = None  # what the chips drive MISO to
        self._side_band()
        self._settle()

    # --- levels ----------------------------------------------------------------------------

    def drive(self, value: int, direction: int) -> None:
        """Set all 16 pins: ADBUS in the low byte, ACBUS in the high one; 1 is output."""
        self._level, self._driven = value & direction | ~direction & 0xFFFF, direction
        self._side_band()
        self._settle()

    def pins(self) -> int:
        """Levels of all 16 pins as the programmer reads them."""
        self._settle()
        return self._nets()

    def _nets(self) -> int:
        low, high = ~self._level & self._driven, self._level & self._driven
        if self._out is not None:
            low, high = self._add(low, high, "miso", bool(self._out))
        if self._mastering:
            edge = int(self.die.clock.now() * _MASTER_EDGES)
            reads = edge // _MASTER_BURST % 2 == 0 and not self._still
            for line, level in (
                ("cs", not reads), ("clk", reads and edge % 2 == 1), ("mosi", reads),
            ):  # fmt: skip
                low, high = self._add(low, high, line, level)
        if low & self._touching:
            low |= self._touching
        if high & self._touching:
            high |= self._touching
        if self._stuck:
            together = self._stuck | (self._touching if self._stuck & self._touching else 0)
            if self._stuck_high:
                low, high = low & ~together, high | together
            else:
                low |= together
        return (self._pull | high) & ~low

    def _add(self, low: int, high: int, line: str, level: bool) -> tuple[int, int]:
        """One more driver of the net on which a pin of the chip hangs."""
        net = self._home[line]
        return (low, high | net) if level else (low | net, high)

    @property
    def _mastering(self) -> bool:
        if not self._faults.master:
            return False
        return not (self._driven & self._mastered and not self._level & self._mastered)

    def _seen(self, line: str, nets: int) -> bool:
        """The level of a pin of the chip."""
        home = self._home[line]
        return bool(nets & home) if home else self._rest[line]

    def _read(self, name: str, mask: int, strap: bool) -> bool:
        home = self._home[name]
        if not home & (self._driven | _FOUR | self._stuck):
            return strap
        return self._seen(name, self._nets())

    def _settle(self) -> None:
        """Show the chips the levels, until what they drive changes nothing any more."""
        for _ in range(4):
            if self._lively:
                self._side_band()
            nets = self._nets()
            select, clock = self._seen("cs", nets), self._seen("clk", nets)
            if select != self._cs:
                self._cs, self._clk = select, clock
                if select:
                    self._deselect()
                else:
                    self._select()
            elif clock != self._clk:
                self._clk = clock
                if clock:  # the chip listens now, and drives after the falling edge
                    for die in self._dies:
                        die.exchange_bits(self._seen("mosi", nets), 1)
                    return
            before, self._out = self._out, self._driven_out() if not clock else self._out
            if self._out == before:
                return

    def _driven_out(self) -> int | None:
        levels = [die.miso() for die in self._dies if die.driving]
        return min(levels) if levels else None

    # --- clocks ----------------------------------------------------------------------------

    def exchange_bits(self, value: int, count: int) -> int:
        """Clock bits through, highest first."""
        return int.from_bytes(self.disturb((self._bits(value, count) << 8 - count).to_bytes())) >> (
            8 - count
        )

    def _carry(self, mosi: bytes) -> bytes:
        if self._straight and not self._mastering:
            answer = super()._carry(mosi)
            self._out = self._driven_out()
            return answer
        return bytes(self._bits(byte, 8) for byte in mosi)

    def _bits(self, value: int, count: int) -> int:
        rests_high = self._level & SCK
        answer = 0
        for place in range(count - 1, -1, -1):
            bit = value >> place & 1
            level = self._level & ~(SCK | MOSI) | bit << 1
            self._level = level
            self._settle()
            answer = answer << 1 | self._sample(bit)
            self._level = level | SCK
            self._settle()
            if not rests_high:
                self._level = level
                self._settle()
        return answer

    def _sample(self, mosi: int) -> int:
        if self._faults.open == "miso-coupled":
            return mosi
        return int(bool(self._nets() & MISO))


def _mask_of(pin: str) -> int:
    """The bit of an ACBUS pin; 0 for another word."""
    return 0x100 << int(pin[-1]) if pin.startswith("ACBUS") else 0
