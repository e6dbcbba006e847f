"""The serial flasher protocol, version 1: what both ends must agree on.

A command is an opcode and its parameters; an answer is ACK and its bytes, or NAK alone. All
numbers are little-endian.

Ref: flashrom, Documentation/serprog-protocol.txt (version 1).
Limits: SPI only; the commands for parallel, LPC and FWH chips (06h, 09h, 0Ah, 0Ch, 0Dh) are not
used.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

ACK: Final = 0x06
NAK: Final = 0x15

NOP: Final = 0x00
Q_IFACE: Final = 0x01
Q_CMDMAP: Final = 0x02
Q_PGMNAME: Final = 0x03
Q_SERBUF: Final = 0x04
Q_BUSTYPE: Final = 0x05
Q_OPBUF: Final = 0x07
Q_WRNMAXLEN: Final = 0x08
O_INIT: Final = 0x0B
O_DELAY: Final = 0x0E
O_EXEC: Final = 0x0F
SYNCNOP: Final = 0x10
Q_RDNMAXLEN: Final = 0x11
S_BUSTYPE: Final = 0x12
O_SPIOP: Final = 0x13
S_SPI_FREQ: Final = 0x14
S_PIN_STATE: Final = 0x15

VERSION: Final = 1
BUS_SPI: Final = 0x08
NAME_LENGTH: Final = 16
MAP_LENGTH: Final = 32
#: What a delay takes in the operation buffer: opcode and 32 bits.
DELAY_SIZE: Final = 5
#: Longest length 24 bits can say. As an answer to Q_WRNMAXLEN and Q_RDNMAXLEN, 0 means 2^24.
LENGTH_LIMIT: Final = (1 << 24) - 1
SPIOP_HEADER: Final = 7
SYNC_ANSWER: Final = bytes((NAK, ACK))


def spiop(write: bytes, read: int) -> bytes:
    """One chip-select window: shift ``write`` out, then ``read`` bytes in."""
    lengths = len(write).to_bytes(3, "little") + read.to_bytes(3, "little")
    return bytes((O_SPIOP,)) + lengths + write


def delay(microseconds: int) -> bytes:
    """Put a delay into the operation buffer."""
    return bytes((O_DELAY,)) + microseconds.to_bytes(4, "little")


def command_map(opcodes: Iterable[int]) -> bytes:
    """The answer to Q_CMDMAP: opcode n is bit n % 8 of byte n // 8."""
    bits = sum(1 << opcode for opcode in set(opcodes))
    return bits.to_bytes(MAP_LENGTH, "little")


def commands_in(bitmap: bytes) -> frozenset[int]:
    """The opcodes a command map names."""
    bits = int.from_bytes(bitmap, "little")
    return frozenset(opcode for opcode in range(8 * MAP_LENGTH) if bits >> opcode & 1)
