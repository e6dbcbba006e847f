"""Named oddities of chips.

A quirk is something a driver must know and neither SFDP nor another catalog field can say.
The catalog refuses a name that is not listed here, so that every name has an explanation.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

QUIRKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "sfdp-three-byte-only": (
            "SFDP claims 3-byte addresses only although the chip is larger than 16 MiB; the "
            "catalog's addressing is right (IS25LP256D, IS25WP256D)."
        ),
        "sfdp-no-4byte-opcodes": (
            "SFDP has no usable 4-byte instruction table although the commands exist; the "
            "catalog's opcodes are right (W25Q256JV, MX25L25635F)."
        ),
        "multi-die": (
            "The chip is a stack of dies: one chip-erase command does not reach all of them, so "
            "the catalog gives none and the chip is erased by dies, or by blocks."
        ),
        "tb-one-time": (
            "The top/bottom protection bit can be set once and never cleared; it must not be "
            "written while lifting a protection."
        ),
        "no-reprogram": (
            "On-die ECC covers a unit that may be programmed once between two erases: clearing "
            "more bits in a page that holds data fails or turns the ECC off, so every change of "
            "such a page takes an erase."
        ),
        "wpsel": (
            "WPSEL, bit 7 of the security register (2Bh), may have switched the part for ever to "
            "individual block locks; the BP bits then mean nothing, and 98h unlocks."
        ),
        "locked-at-power-up": (
            "Every block is write-locked after power-up; the global unlock command 98h, or the "
            "block-protection register, must be written before the first program or erase."
        ),
        "busy-after-failure": (
            "After a failed program or erase the chip stays busy and ignores every command but "
            "the read and the clear of its status, until the failure is cleared by 30h."
        ),
        "wrsr-clears-second-register": (
            "A one-byte write of the status register (01h) may clear the second register: both "
            "bytes must always be written together."
        ),
        "address-register-survives": (
            "The extended address register keeps its value over a software reset of the host: "
            "it must be set before the first 3-byte command."
        ),
        "sector-map-configurable": (
            "Configuration bits move or remove the 4 KiB parameter sectors; the catalog "
            "describes the chip as delivered, SFDP says which map is on."
        ),
        "ready-per-die": (
            "The status register is that of the active die: a die is selected by C2h before "
            "work on it, so that it is the one that is asked (W25Q01JV)."
        ),
        "conservative-limits": (
            "Times are longer limits of the part's family where its own data sheet, or the "
            "revisions of it, could not settle the figure; SFDP or measured times are nearer."
        ),
        "low-power-mode": (
            "The chip is delivered in an ultra-low-power mode that is slower than the "
            "high-performance mode; the times of the catalog are those of the slow mode."
        ),
        "flag-status-poll": (
            "The end of a program or erase must be read from the flag status register (70h), "
            "and it must be read at least once after each."
        ),
    }
)
"""Every quirk name the catalog may use, with what it means."""
