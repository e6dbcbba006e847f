"""Chips and protection as JSON-ready data: the keys that scripts rely on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hwflash.chip import sfdp, words
from hwflash.chip.model import Chip, EnterFourByte
from hwflash.chip.protection import ProtectionState
from hwflash.errors import ChipUnsupported
from hwflash.jobs.session import Session
from hwflash.layout.files import Segment, save_image


def chip_keys(chip: Chip, tables: sfdp.Sfdp | None, source: str) -> dict[str, Any]:
    """The keys that ``probe``, ``chips show`` and ``chips decode`` share."""
    return {
        "jedec_id": chip.jedec_id.hex(),
        "part": chip.part,
        "manufacturer": chip.manufacturer,
        "size": chip.size,
        "page_size": chip.page_size,
        "erase_blocks": [
            {
                "size": kind.size,
                "opcode": kind.opcode,
                "opcode_4byte": kind.opcode_4byte,
                "typical_seconds": round(kind.time.typical, 9),
                "maximum_seconds": round(kind.time.maximum, 9),
            }
            for kind in chip.erase_types
        ],
        "erase_regions": [
            {
                "address": region.start,
                "length": region.length,
                "sizes": [kind.size for kind in region.types],
            }
            for region in chip.erase
        ],
        "address_bytes": address_bytes(chip),
        "four_byte": {
            "enter": chip.addressing.enter.value,
            "opcodes": chip.addressing.opcodes,
            "read_opcodes": chip.addressing.read_opcodes,
        },
        "programming": chip.programming.value,
        "dies": {
            "count": chip.dies.count,
            "size": chip.die_size,
            "access": chip.dies.access.value,
            "erase_opcode": chip.dies.erase[0] if chip.dies.erase else None,
        },
        "chip_erase_opcode": chip.chip_erase[0] if chip.chip_erase else None,
        "words": {
            "addressing": words.addressing_words(chip),
            "programming": words.programming_words(chip),
            "dies": words.dies_words(chip),
            "erase": words.erase_words(chip),
        },
        "page_program_seconds": {
            "typical": round(chip.page_program.typical, 9),
            "maximum": round(chip.page_program.maximum, 9),
        },
        "voltage": list(chip.voltage) if chip.voltage else None,
        "quirks": sorted(chip.quirks),
        "datasheet": chip.datasheet or None,
        "sfdp": sfdp_keys(tables) if tables is not None else None,
        "source": source,
        "protection": None,  # only a chip on a bus can tell
        "unique_id": None,
    }


def address_bytes(chip: Chip) -> str:
    """``3``, ``4`` or ``3 or 4``."""
    four = chip.addressing.opcodes or chip.addressing.enter is not EnterFourByte.NONE
    if not chip.addressing.three_byte or chip.addressing.enter is EnterFourByte.ALWAYS:
        return "4"
    return "3 or 4" if four else "3"


def sfdp_keys(tables: sfdp.Sfdp) -> dict[str, Any]:
    """Revision, tables and oddities of SFDP."""
    return {
        "revision": f"{tables.revision[0]}.{tables.revision[1]}",
        "tables": [
            {
                "id": f"{header.id:04x}",
                "name": header.name,
                "revision": f"{header.major}.{header.minor}",
                "dwords": header.dwords,
                "pointer": header.pointer,
            }
            for header in tables.headers
        ],
        "notes": [{"code": note.code, "text": note.text} for note in tables.notes],
    }


def protection_keys(state: ProtectionState) -> dict[str, Any]:
    """What is locked, as data and in words."""
    return {
        "known": state.known,
        "individual": state.individual,
        "locked": [{"address": item.address, "length": item.length} for item in state.ranges],
        "register_lock": state.register_lock.value,
        "summary": state.summary,
    }


def probe_keys(session: Session) -> dict[str, Any]:
    """Everything ``probe`` tells."""
    identity = session.identity
    registers = session.flash.registers()
    return {
        **chip_keys(session.chip, identity.sfdp, identity.resolved.source),
        "jedec_id": identity.jedec_id.hex(),
        "extended_id": identity.extended_id.hex(),
        "unique_id": session.unique_id(),
        "registers": {str(number): value for number, value in sorted(registers.items())},
        "protection": protection_keys(session.protection()),
        "conflicts": [str(item) for item in identity.resolved.conflicts],
        "also": [twin.part for twin in identity.resolved.twins],
        "programmer": session.programmer.url,
        "frequency": session.programmer.bus.frequency,
    }


def save_sfdp(session: Session, path: Path) -> None:
    """Write the SFDP tables of a chip to a file, as they were read twice the same.

    Raises:
        ChipUnsupported: it has none (``chip.no-sfdp``).
        EnvironmentFault: the file cannot be written.
    """
    raw = session.identity.sfdp_bytes
    if raw is None:
        raise ChipUnsupported(
            f"{session.chip.part} has no SFDP tables", code="chip.no-sfdp", part=session.chip.part
        )
    save_image(path, [Segment(0, raw)], "raw")
