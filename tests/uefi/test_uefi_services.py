"""The variable services: what they return, and what they refuse with which status."""

from __future__ import annotations

import pytest
from variable_services import (
    APPEND,
    AT,
    AW,
    BS,
    HARDWARE,
    HR,
    HR_LIMITS,
    INVALID,
    NOT_FOUND,
    NV,
    NV_BS_RT,
    RT,
    T1,
    VIOLATION,
    VOLATILE,
    names,
    nvram_of,
    refused,
    services,
)
from volumes import (
    AAVMF,
    GUID,
    NV_BS,
    OTHER,
    OVMF_2M,
    OVMF_4M,
    entry,
    variable,
    volume_bytes,
)

from hwflash.errors import ImageError
from hwflash.uefi.find import read_at
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.records import State
from hwflash.uefi.services import Info, VariableServices
from hwflash.uefi.status import EfiError, EfiStatus
from hwflash.uefi.variable_limits import Limits, limits_of
from hwflash.uefi.window import Window
from hwflash.units import Range

# ---------------------------------------------------------------- reading


def test_get_variable():
    stored = variable("Time", b"x", attributes=NV_BS_RT | AT, timestamp=T1.build())
    service = services([variable("A", b"one"), variable("A", b"two", OTHER), stored])
    assert service.get_variable("A", GUID).data == b"one"
    assert service.get_variable("A", OTHER).data == b"two"
    assert service.get_variable("A", GUID).attributes == NV_BS
    assert service.get_variable("Time", GUID).timestamp == T1
    for name, guid in (("B", GUID), ("", GUID), ("Time", OTHER), ("A\0", GUID)):
        with pytest.raises(EfiError) as caught:
            service.get_variable(name, guid)
        assert caught.value.status == EfiStatus.NOT_FOUND


def test_get_variable_finds_a_lone_record_in_transition_and_hides_an_old_twin():
    service = services(
        [
            variable("Lone", b"lone", state=State.IN_DELETED_TRANSITION),
            variable("Twin", b"old", state=State.IN_DELETED_TRANSITION),
            variable("Dead", b"dead", state=State.DELETED),
            variable("Twin", b"new"),
        ]
    )
    assert service.get_variable("Lone", GUID).data == b"lone"
    assert service.get_variable("Twin", GUID).data == b"new"
    with pytest.raises(EfiError):
        service.get_variable("Dead", GUID)


def test_at_runtime_only_variables_with_that_access_are_seen():
    records = [variable("Boot"), variable("Run", attributes=NV_BS_RT)]
    service = services(records, at_runtime=True)
    assert service.get_next_variable_name("", None) == ("Run", GUID)
    with pytest.raises(EfiError) as caught:
        service.get_variable("Boot", GUID)
    assert caught.value.status == EfiStatus.NOT_FOUND
    with pytest.raises(EfiError) as caught:
        service.get_next_variable_name("Boot", GUID)
    assert caught.value.status == EfiStatus.INVALID_PARAMETER


def test_the_names_come_in_the_order_of_the_store():
    service = services(
        [
            variable("Lone", state=State.IN_DELETED_TRANSITION),
            variable("B", state=State.IN_DELETED_TRANSITION),
            variable("C"),
            variable("Dead", state=State.DELETED),
            variable("B"),
            variable("C", guid=OTHER),
        ]
    )
    assert names(service) == [("Lone", GUID), ("C", GUID), ("B", GUID), ("C", OTHER)]
    assert names(services()) == []
    for name, guid in (("D", GUID), ("Dead", GUID), ("C", None), ("B", OTHER)):
        with pytest.raises(EfiError) as caught:
            service.get_next_variable_name(name, guid)
        assert caught.value.status == EfiStatus.INVALID_PARAMETER


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("name", "attributes", "data", "status"),
    [
        ("", NV_BS, b"x", INVALID),
        ("a\0b", NV_BS, b"x", INVALID),
        ("New", NV_BS | 0x80, b"x", INVALID),
        ("New", NV_BS | 0x100, b"x", INVALID),
        ("New", -1, b"x", INVALID),
        ("New", NV | RT, b"x", INVALID),
        ("New", NV_BS | AT | AW, b"x", INVALID),
        ("New", NV_BS | AT, b"x", VIOLATION),
        ("New", NV_BS | AW, b"x", VIOLATION),
        ("New", NV_BS | HR, b"x", INVALID),
        ("New", BS, b"x", VOLATILE),
        ("New", BS | RT | APPEND, b"x", VOLATILE),
        ("New", NV_BS, b"", NOT_FOUND),
        ("New", 0, b"", NOT_FOUND),
        ("New", 0, b"x", NOT_FOUND),
        ("New", NV, b"x", NOT_FOUND),
        ("New", APPEND, b"x", NOT_FOUND),
        ("Dead", 0, b"", NOT_FOUND),
        ("Old", NV_BS_RT, b"x", INVALID),
        ("Old", NV, b"", INVALID),
        ("Old", APPEND, b"x", INVALID),
        ("Old", BS, b"x", INVALID),
        ("Old", NV_BS_RT | APPEND, b"x", INVALID),
        ("Auth", NV_BS_RT | AT, b"x", VIOLATION),
        ("Auth", 0, b"", VIOLATION),
        ("Auth", NV_BS_RT, b"x", INVALID),
        ("New", NV_BS, bytes(0x2000 - 60 - 8 + 1), INVALID),
        ("N" * 4096, NV_BS, b"x", INVALID),
        ("Old", NV_BS | APPEND, bytes(0x2000 - 60 - 8 - 3 + 1), INVALID),
    ],
)
def test_what_set_variable_refuses(name, attributes, data, status):
    records = [
        variable("Old", b"old"),
        variable("Auth", b"a", attributes=NV_BS_RT | AT, timestamp=T1.build()),
        variable("Dead", state=State.DELETED),
    ]
    assert refused(services(records), name, GUID, attributes, data) == status


@pytest.mark.parametrize(
    ("name", "attributes", "data", "status"),
    [
        ("Boot", NV_BS, b"x", EfiStatus.WRITE_PROTECTED),
        ("Boot", 0, b"", EfiStatus.WRITE_PROTECTED),
        ("New", NV_BS, b"x", INVALID),
        ("New", BS | RT, b"x", INVALID),
        ("New", NV_BS_RT, b"", NOT_FOUND),
    ],
)
def test_what_set_variable_refuses_at_runtime(name, attributes, data, status):
    service = services([variable("Boot")], at_runtime=True)
    assert refused(service, name, GUID, attributes, data) == status
    assert service.set_variable("New", GUID, NV_BS_RT, b"x").change == "new"


def test_the_largest_values():
    for layout, plain, signed in ((OVMF_2M, 0x2000, 0x2800), (OVMF_4M, 0x8400, 0x8400)):
        for attributes, most in ((NV_BS, plain), (NV_BS | AT, signed)):
            service = services(layout=layout)
            largest = most - 60 - len("New\0".encode("utf-16-le"))
            options = {"force": bool(attributes & AT)}
            too_much = bytes(largest + 1)
            assert refused(service, "New", GUID, attributes, too_much, **options) == INVALID
            outcome = service.set_variable("New", GUID, attributes, bytes(largest), **options)
            assert outcome.record.data == bytes(largest)


def test_limits_of_a_layout_nobody_knows():
    image = volume_bytes([variable("Big", bytes(0x3000))])
    window = Window(bytes(image))
    found = read_at(window, Range(0, OVMF_2M.variables), OVMF_2M.work, OVMF_2M.spare)
    assert found.areas.layout == "board file"
    assert limits_of(Nvram(window, found)) == Limits(0x2000, 0x2800), "the places say it"
    found = read_at(window, Range(0, OVMF_2M.variables), Range(0xF000, 0x800))
    nvram = Nvram(window, found)
    big = 60 + 8 + 0x3000
    assert limits_of(nvram) == Limits(big, big)
    assert limits_of(nvram_of(volume_bytes((), AAVMF, block=0x40000))) == Limits(0x2000, 0x2800)


def test_a_plain_store_has_no_authenticated_variables():
    service = services(kind="plain")
    assert refused(service, "New", GUID, NV_BS | AT, b"x", force=True) == INVALID
    outcome = service.set_variable("New", GUID, NV_BS, b"value")
    assert outcome.record.header_size == 32
    assert service.get_variable("New", GUID).data == b"value"


def test_hardware_error_records():
    service = services(limits=HR_LIMITS)
    attributes = NV_BS_RT | HR
    for name, guid in (
        ("HwErrRec00", HARDWARE),
        ("HwErrRec000g", HARDWARE),
        ("HwErrRec0001", GUID),
    ):
        assert refused(service, name, guid, attributes, b"x") == INVALID
    too_large = bytes(0x1000 - 60 - 26 + 1)
    assert refused(service, "HwErrRec0001", HARDWARE, attributes, too_large) == INVALID
    assert service.set_variable("HwErrRec0001", HARDWARE, attributes, b"x").change == "new"
    service.set_variable("HwErrRec0002", HARDWARE, attributes, too_large[1:])
    done = len(service.nvram.operations)
    with pytest.raises(EfiError) as caught:
        service.set_variable("HwErrRec0004", HARDWARE, attributes, too_large[1:])
    assert caught.value.status == EfiStatus.OUT_OF_RESOURCES, "their part of the store is full"
    assert len(service.nvram.operations) == done
    assert service.set_variable("Common", GUID, NV_BS, b"x").change == "new"


def test_names_of_every_kind():
    service = services()
    for name in ("\ud800", "\udfff\ud800", "\U0001f600", "é\u202e", " ", "a" * 100):
        assert service.set_variable(name, GUID, NV_BS, b"x").change == "new"
        assert service.get_variable(name, GUID).data == b"x"
    # Two surrogates that make a pair are the same name as the character.
    assert service.set_variable("\ud83d\ude00", GUID, NV_BS, b"y").change == "updated"
    assert service.get_variable("\U0001f600", GUID).data == b"y"


def test_a_pending_write_is_refused():
    for flags in ((0xFE, 0xFF), (0xFC, 0xFF), (0xFC, 0xFD), (0xFC, 0xF9)):
        write = entry(header=flags[0], record=flags[1])
        service = services([variable("Old")], entries=(write,))
        for call in (("Old", GUID, NV_BS, b"x"), ("Old", GUID, 0, b"")):
            with pytest.raises(ImageError) as caught:
                service.set_variable(*call)
            assert caught.value.code == "ftw.pending"
        assert service.nvram.operations == []
        assert service.get_variable("Old", GUID).data == b"value", "reading goes on"
    done = services([variable("Old")], entries=(entry(header=0xF8, record=0xF9),))
    assert done.set_variable("Old", GUID, NV_BS, b"x").change == "updated"


def test_a_store_with_errors_is_refused_and_they_are_named():
    service = services([variable("Twice", b"1"), variable("Twice", b"2"), variable("Fine")])
    with pytest.raises(ImageError) as caught:
        service.set_variable("Fine", GUID, NV_BS, b"x")
    assert caught.value.code == "uefi.unhealthy"
    assert "Twice" in caught.value.message
    assert caught.value.context["anomalies"] == ["record.duplicate"]
    image = volume_bytes([variable("Fine")])
    image[50] ^= 1
    with pytest.raises(ImageError) as caught:
        VariableServices(nvram_of(image)).set_variable("Fine", GUID, NV_BS, b"x")
    assert caught.value.context["anomalies"] == ["volume.checksum"]


# ---------------------------------------------------------------- space


def test_query_variable_info():
    records = [
        variable("Live", b"1234"),
        variable("Dead", b"1234", state=State.DELETED),
        variable("Lone", b"1234", state=State.IN_DELETED_TRANSITION),
        variable("Twin", b"1234", state=State.IN_DELETED_TRANSITION),
        variable("Twin", b"1234"),
    ]
    size = 60 + 10 + 4 + 2
    total = 0xDFB8 - 28
    service = services(records)
    assert service.query_variable_info(NV_BS) == Info(total, total - 3 * size, 0x2000 - 60)
    assert service.query_variable_info(NV_BS | AT).maximum_variable_size == 0x2800 - 60
    at_runtime = services(records, at_runtime=True)
    assert at_runtime.query_variable_info(NV_BS_RT) == Info(total, total - 5 * size, 0x2000 - 60)
    reserved = Limits(0x2000, 0x2800, boottime_reserved=0x1000)
    small = services(records, at_runtime=True, limits=reserved)
    assert small.query_variable_info(NV_BS_RT).maximum_storage == total - 0x1000
    errors = services(records, limits=HR_LIMITS)
    assert errors.query_variable_info(NV_BS | HR) == Info(0x2000, 0x2000, 0x1000 - 60)
    assert errors.query_variable_info(NV_BS).maximum_storage == total - 0x2000


def test_the_largest_variable_is_no_larger_than_what_is_left():
    large = [variable(f"{index}", bytes(0x1FC0 - 60)) for index in range(7)]
    info = services(large).query_variable_info(NV_BS)
    assert info.maximum_variable_size == info.remaining - 60
    records = [*large[:6], variable("x", bytes(0xDF9C - 6 * 0x1FC4 - 60 - 4 - 56))]
    info = services(records).query_variable_info(NV_BS)
    assert info.remaining == 56
    assert info.maximum_variable_size == 0


@pytest.mark.parametrize(
    ("attributes", "at_runtime", "status"),
    [
        (0, False, INVALID),
        (0x100, False, EfiStatus.UNSUPPORTED),
        (NV | RT, False, INVALID),
        (NV_BS, True, INVALID),
        (BS | HR, False, INVALID),
        (NV_BS | HR, False, EfiStatus.UNSUPPORTED),
        (BS, False, EfiStatus.UNSUPPORTED),
    ],
)
def test_what_query_variable_info_refuses(attributes, at_runtime, status):
    with pytest.raises(EfiError) as caught:
        services(at_runtime=at_runtime).query_variable_info(attributes)
    assert caught.value.status == status


def test_a_plain_store_answers_no_query_for_authenticated_variables():
    with pytest.raises(EfiError) as caught:
        services(kind="plain").query_variable_info(NV_BS | AT)
    assert caught.value.status == EfiStatus.UNSUPPORTED


@pytest.mark.parametrize(
    ("status", "value", "code"),
    [
        (EfiStatus.SUCCESS, 0, "efi.success"),
        (EfiStatus.INVALID_PARAMETER, 0x8000000000000002, "efi.invalid-parameter"),
        (EfiStatus.BAD_BUFFER_SIZE, 0x8000000000000004, "efi.bad-buffer-size"),
        (EfiStatus.BUFFER_TOO_SMALL, 0x8000000000000005, "efi.buffer-too-small"),
        (EfiStatus.WRITE_PROTECTED, 0x8000000000000008, "efi.write-protected"),
        (EfiStatus.OUT_OF_RESOURCES, 0x8000000000000009, "efi.out-of-resources"),
        (EfiStatus.NOT_FOUND, 0x800000000000000E, "efi.not-found"),
        (EfiStatus.ACCESS_DENIED, 0x800000000000000F, "efi.access-denied"),
        (EfiStatus.SECURITY_VIOLATION, 0x800000000000001A, "efi.security-violation"),
    ],
)
def test_status_values_and_codes(status, value, code):
    assert status == value
    assert status.code == code
    assert status.efi_name == "EFI_" + code[4:].upper().replace("-", "_")
    error = EfiError(status, "why", name="x")
    assert (error.code, error.status, error.exit_code) == (code, status, 7)
    assert error.context == {"name": "x"}
