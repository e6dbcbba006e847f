"""Variable services on volumes made for tests."""

from __future__ import annotations

from uuid import UUID

import pytest
from volumes import (
    OVMF_2M,
    volume_bytes,
)

from hwflash.uefi.efitime import EfiTime
from hwflash.uefi.find import find_stores
from hwflash.uefi.flashops import Program
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.records import Attribute
from hwflash.uefi.services import VariableServices
from hwflash.uefi.status import EfiError, EfiStatus
from hwflash.uefi.variable_limits import Limits
from hwflash.uefi.window import Window

A = Attribute
NV, BS, RT = int(A.NON_VOLATILE), int(A.BOOTSERVICE_ACCESS), int(A.RUNTIME_ACCESS)
NV_BS_RT = NV | BS | RT
AT = int(A.TIME_BASED_AUTHENTICATED_WRITE_ACCESS)
AW = int(A.AUTHENTICATED_WRITE_ACCESS)
HR = int(A.HARDWARE_ERROR_RECORD)
APPEND = int(A.APPEND_WRITE)
HARDWARE = UUID("414e6bdd-e47b-47cc-b244-bb61020cf516")
FIRST = 0x64  # Where the first record of a volume is.
T1, T2 = EfiTime(2024, 1, 2, 3, 4, 5), EfiTime(2025, 1, 1)
HR_LIMITS = Limits(0x2000, 0x2800, hardware_error=0x1000, hardware_error_storage=0x2000)
VOLATILE = EfiStatus.UNSUPPORTED
INVALID = EfiStatus.INVALID_PARAMETER
NOT_FOUND = EfiStatus.NOT_FOUND
VIOLATION = EfiStatus.SECURITY_VIOLATION


def nvram_of(image: bytes) -> Nvram:
    window = Window(bytes(image))
    (found,) = find_stores(window)
    return Nvram(window, found)


def services(records=(), *, layout=OVMF_2M, kind="authenticated", entries=(), **options):
    image = volume_bytes(records, layout, kind=kind, entries=entries)
    return VariableServices(nvram_of(image), **options)


def refused(service: VariableServices, *arguments, **options) -> EfiStatus:
    """The status of a SetVariable that is refused, and has done nothing."""
    with pytest.raises(EfiError) as caught:
        service.set_variable(*arguments, **options)
    assert caught.value.code == caught.value.status.code
    assert service.nvram.operations == []
    return caught.value.status


def programs(service: VariableServices) -> list[tuple[int, bytes]]:
    return [
        (step.address, step.data) for step in service.nvram.operations if isinstance(step, Program)
    ]


def live(image: bytes | Window) -> dict[tuple[str, UUID], tuple[int, bytes]]:
    (found,) = find_stores(image)
    return {item.key: (item.attributes, item.data) for item in found.store.live}


def attempt(call, *arguments):
    """Status and result of a service."""
    try:
        return EfiStatus.SUCCESS, call(*arguments)
    except EfiError as error:
        return error.status, None


def names(service: VariableServices) -> list[tuple[str, UUID]]:
    found, key = [], ("", None)
    while True:
        status, key = attempt(service.get_next_variable_name, *key)
        if key is None:
            assert status == EfiStatus.NOT_FOUND
            return found
        found.append(key)
