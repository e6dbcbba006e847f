"""Which pins of an FT232H do what."""

from __future__ import annotations

from dataclasses import dataclass

from hwflash.bus import mpsse
from hwflash.errors import UsageError


@dataclass(frozen=True, slots=True)
class PinUse:
    """Which pins do what. A name is ``ADBUS4`` to ``ADBUS7`` or ``ACBUS0`` to ``ACBUS7``.

    Attributes:
        cs: chip select number; n is ADBUS(3 + n).
        wp: pin wired to WP#, driven high; None when it is tied on the board.
        hold: pin wired to HOLD#/RESET#, driven high; None when it is tied on the board.
        reset: pin that holds the board's processor in reset: driven low while open.
        power: pin that switches the board's supply: driven high while open.
    """

    cs: int = 0
    wp: str | None = "ADBUS4"
    hold: str | None = "ADBUS5"
    reset: str | None = None
    power: str | None = None

    def pins(self) -> mpsse.Pins:
        """Levels and directions with the chip deselected.

        Raises:
            UsageError: an unknown pin, or one pin with two uses.
        """
        if not 0 <= self.cs <= 4:
            raise UsageError(
                f"chip select {self.cs} is not 0 to 4", code="usage.pin", pin=f"cs={self.cs}"
            )
        cs = 1 << (3 + self.cs)
        value, direction = cs, mpsse.SCK | mpsse.MOSI | cs
        for use, name in (("wp", self.wp), ("hold", self.hold), ("reset", self.reset),
                          ("power", self.power)):  # fmt: skip
            if name is None:
                continue
            mask = pin_mask(name)
            if mask & direction or mask == 0x04:
                raise UsageError(
                    f"pin {name} cannot be {use}: it is in use already",
                    code="usage.pin",
                    pin=name,
                    use=use,
                )
            direction |= mask
            if use != "reset":
                value |= mask
        return mpsse.Pins(value=value, direction=direction, cs=cs)


def pin_mask(name: str) -> int:
    """The bit of a pin in the 16-bit pin word: ADBUSn is bit n, ACBUSn bit 8 + n.

    Raises:
        UsageError: not the name of a pin.
    """
    bank, digit = name[:-1].upper(), name[-1:]
    if bank in ("ADBUS", "ACBUS") and digit in "01234567" and digit:
        return 1 << (int(digit) + (8 if bank == "ACBUS" else 0))
    raise UsageError(f"{name!r} is not a pin", code="usage.pin", pin=name)
