"""EFI_TIME, the time stamp of authenticated variables.

Ref: UEFI 2.10 §8.3. A time stamp of an authenticated write has pads, nanoseconds, time zone
and daylight zero (§8.2.6) and counts as UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hwflash.uefi.layouts import EFI_TIME

#: The time zone is not given: local time.
UNSPECIFIED: Final = 0x07FF


@dataclass(frozen=True, slots=True)
class EfiTime:
    """A point in time as firmware stores it; any value may stand in any field."""

    year: int = 0
    month: int = 0
    day: int = 0
    hour: int = 0
    minute: int = 0
    second: int = 0
    pad1: int = 0
    nanosecond: int = 0
    time_zone: int = 0
    daylight: int = 0
    pad2: int = 0

    @classmethod
    def parse(cls, data: bytes) -> EfiTime:
        """From its 16 bytes."""
        return cls(*EFI_TIME.unpack(data))

    def build(self) -> bytes:
        """The 16 bytes."""
        return EFI_TIME.build(**{name: getattr(self, name) for name in EFI_TIME.names})

    @property
    def is_zero(self) -> bool:
        """Whether no time is given."""
        return self == EfiTime()

    @property
    def order(self) -> tuple[int, ...]:
        """What firmware compares to find the later of two (edk2 VerifyTimeBasedPayload)."""
        return self.year, self.month, self.day, self.hour, self.minute, self.second

    def __str__(self) -> str:
        """ISO 8601; fields that make no date are printed all the same."""
        text = (
            f"{self.year:04d}-{self.month:02d}-{self.day:02d}"
            f"T{self.hour:02d}:{self.minute:02d}:{self.second:02d}"
        )
        if self.nanosecond:
            text += f".{self.nanosecond:09d}"
        if self.time_zone == UNSPECIFIED:
            return text
        if self.time_zone == 0:
            return text + "Z"
        # UEFI: local time = UTC - time zone, in minutes, so the sign is the other way round.
        sign = "-" if self.time_zone > 0 else "+"
        hours, minutes = divmod(abs(self.time_zone), 60)
        return f"{text}{sign}{hours:02d}:{minutes:02d}"

    @property
    def is_date(self) -> bool:
        """Whether the fields are a date and time of day."""
        try:
            datetime(self.year, self.month, self.day, self.hour, self.minute, self.second)
        except ValueError:
            return False
        return True
