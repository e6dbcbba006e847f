"""EFI_STATUS: the results that firmware services name their failures with.

Ref: edk2 MdePkg/Include/Uefi/UefiBaseType.h and Base.h (values on 64-bit processors: the top
bit says that it is an error).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from hwflash.errors import ImageError

_ERROR: Final = 1 << 63


class EfiStatus(IntEnum):
    """Status codes with their values on 64-bit processors."""

    SUCCESS = 0
    INVALID_PARAMETER = _ERROR | 2
    UNSUPPORTED = _ERROR | 3
    BAD_BUFFER_SIZE = _ERROR | 4
    BUFFER_TOO_SMALL = _ERROR | 5
    NOT_READY = _ERROR | 6
    DEVICE_ERROR = _ERROR | 7
    WRITE_PROTECTED = _ERROR | 8
    OUT_OF_RESOURCES = _ERROR | 9
    VOLUME_CORRUPTED = _ERROR | 10
    VOLUME_FULL = _ERROR | 11
    NOT_FOUND = _ERROR | 14
    ACCESS_DENIED = _ERROR | 15
    TIMEOUT = _ERROR | 18
    ALREADY_STARTED = _ERROR | 20
    ABORTED = _ERROR | 21
    SECURITY_VIOLATION = _ERROR | 26

    @property
    def efi_name(self) -> str:
        """``EFI_NOT_FOUND``."""
        return f"EFI_{self.name}"

    @property
    def code(self) -> str:
        """The code of an `EfiError` with this status: ``efi.not-found``."""
        return f"efi.{self.name.lower().replace('_', '-')}"


class EfiError(ImageError):
    """A service did what firmware does: it refused, with a status.

    Attributes:
        status: what the firmware's service returns in this case.
    """

    code = "efi"

    def __init__(self, status: EfiStatus, message: str, /, **context: object) -> None:
        super().__init__(message, code=status.code, **context)
        self.status = status
