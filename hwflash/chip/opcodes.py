"""SPI NOR command opcodes.

Ref: JESD216F (commands named in the parameter tables); W25Q128JV Rev. F table 8.1.2; the
Micron, Macronix, Spansion and SST data sheets for those marked with a maker.
"""

from __future__ import annotations

from typing import Final

WRITE_ENABLE: Final = 0x06
WRITE_DISABLE: Final = 0x04
VOLATILE_WRITE_ENABLE: Final = 0x50

READ_STATUS_1: Final = 0x05
READ_STATUS_2: Final = 0x35
READ_STATUS_3: Final = 0x15
WRITE_STATUS_1: Final = 0x01
WRITE_STATUS_2: Final = 0x31
WRITE_STATUS_3: Final = 0x11

READ: Final = 0x03
FAST_READ: Final = 0x0B
READ_4BYTE: Final = 0x13
FAST_READ_4BYTE: Final = 0x0C
PAGE_PROGRAM: Final = 0x02
PAGE_PROGRAM_4BYTE: Final = 0x12

SECTOR_ERASE_4K: Final = 0x20
BLOCK_ERASE_32K: Final = 0x52
BLOCK_ERASE_64K: Final = 0xD8
SECTOR_ERASE_4K_4BYTE: Final = 0x21
BLOCK_ERASE_32K_4BYTE: Final = 0x5C
BLOCK_ERASE_64K_4BYTE: Final = 0xDC
CHIP_ERASE: Final = 0xC7
CHIP_ERASE_ALTERNATE: Final = 0x60

READ_JEDEC_ID: Final = 0x9F
READ_MANUFACTURER_ID: Final = 0x90
READ_SFDP: Final = 0x5A
READ_UNIQUE_ID: Final = 0x4B

ENTER_4BYTE: Final = 0xB7
EXIT_4BYTE: Final = 0xE9
WRITE_EXTENDED_ADDRESS: Final = 0xC5
READ_EXTENDED_ADDRESS: Final = 0xC8
WRITE_BANK_REGISTER: Final = 0x17  # Spansion
READ_BANK_REGISTER: Final = 0x16  # Spansion

ERASE_SECURITY: Final = 0x44
PROGRAM_SECURITY: Final = 0x42
READ_SECURITY: Final = 0x48

READ_OTP: Final = 0x4B  # Micron, Spansion
PROGRAM_OTP: Final = 0x42  # Micron, Spansion
ENTER_OTP: Final = 0xB1  # Macronix
EXIT_OTP: Final = 0xC1  # Macronix
LOCK_OTP: Final = 0x2F  # Macronix: LDSO of the security register

POWER_DOWN: Final = 0xB9
RELEASE_POWER_DOWN: Final = 0xAB
ENABLE_RESET: Final = 0x66
RESET: Final = 0x99
SUSPEND: Final = 0x75
RESUME: Final = 0x7A

SELECT_DIE: Final = 0xC2  # stacks of Winbond
DIE_ERASE: Final = 0xC4  # stacks of Micron
READ_NONVOLATILE_CONFIGURATION: Final = 0xB5  # Micron
WRITE_NONVOLATILE_CONFIGURATION: Final = 0xB1  # Micron
AAI_BYTE: Final = 0xAF  # SST25VF512 to SST25VF040
AAI_WORD: Final = 0xAD  # SST25VF...B, SST25WF
AAI_BUSY_ON: Final = 0x70  # the same parts: MISO shows busy during auto address increment
AAI_BUSY_OFF: Final = 0x80
STATUS_AAI: Final = 0x40

READ_FLAG_STATUS: Final = 0x70  # Micron
CLEAR_FLAG_STATUS: Final = 0x50  # Micron
CLEAR_STATUS: Final = 0x30  # Spansion
READ_SECURITY_STATUS: Final = 0x2B  # Macronix
READ_BLOCK_PROTECTION: Final = 0x72  # SST26
WRITE_BLOCK_PROTECTION: Final = 0x42  # SST26
LOCK_BLOCK_PROTECTION: Final = 0x8D  # SST26
LOCK_BLOCK: Final = 0x36  # individual block locks of Winbond, after WPS
UNLOCK_BLOCK: Final = 0x39
READ_BLOCK_LOCK: Final = 0x3D
GLOBAL_UNLOCK: Final = 0x98  # SST26, and others with individual block locks

STATUS_WIP: Final = 0x01
STATUS_WEL: Final = 0x02
FLAG_STATUS_READY: Final = 0x80  # Micron
