"""Naming what an image holds when it holds no variable store of EDK2.

Ref: QEMU docs/interop/qcow2.txt (magic); UEFITool's NVRAM parser (signatures of $VSS, Insyde FDC
and EVSA stores); virt-firmware (VMware's signature).

Limits: by signature only. `hwflash.uefi.find_others` reads the stores of other formats; what of
them is named here has a header that makes no sense.
"""

from __future__ import annotations

import re
from typing import Final

from hwflash.uefi.window import filled_with

_SIGNATURES: Final = (
    (re.compile(rb"\$VSS....\x5a\xfe", re.DOTALL), "a $VSS store (Phoenix, Insyde, Apple)"),
    (re.compile(rb"_FDC....", re.DOTALL), "an Insyde factory data copy (_FDC)"),
    (re.compile(rb"EVSA....", re.DOTALL), "a Phoenix EVSA variable store"),
    (re.compile(rb"VMWNVRAM"), "a VMware variable store"),
)  # fmt: skip


def identify(data: bytes) -> str | None:
    """What an image without a store of EDK2 is, in words; None when nobody knows."""
    if filled_with(data, 0xFF):
        return "all FF: erased, or a chip that does not answer"
    if filled_with(data, 0):
        return (
            "all 00: a blank image, such as AAVMF's template, which the firmware formats at its "
            "first boot"
        )
    if data[:4] == b"QFI\xfb":
        return "a qcow2 disk image: convert it with qemu-img convert -O raw"
    for pattern, name in _SIGNATURES:
        found = pattern.search(data)
        if found is not None:
            return f"{name} at 0x{found.start():06X}, of a kind hwflash does not read"
    return None
