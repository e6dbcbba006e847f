import errno
from types import SimpleNamespace

import pytest
import usb.core
from support import small_chip
from usb.backend import IBackend

from hwflash.bus.discovery import FoundProgrammer, find_all, select
from hwflash.bus.url import FtdiSelector, parse_url
from hwflash.errors import (
    EnvironmentFault,
    HwflashError,
    ProgrammerAbsent,
    ProgrammerError,
    ProgrammerInaccessible,
    UsageError,
)
from hwflash.sim.programmer import SimulatedProgrammer


class Hub(IBackend):
    """Several simulated devices behind one backend; places are told by hand."""

    def __init__(self, *places: tuple[int, int, tuple[int, ...] | None, str]) -> None:
        self.places = places
        self.sims = [SimulatedProgrammer(small_chip(), serial=place[3]) for place in places]

    def enumerate_devices(self):
        return iter(range(len(self.places)))

    def get_device_descriptor(self, dev):
        bus, address, path, _ = self.places[dev]
        plain = vars(self.sims[dev].backend.get_device_descriptor(None))
        return SimpleNamespace(**{
            **plain, "bus": bus, "address": address, "port_numbers": path,
            "port_number": path[-1] if path else None,
        })  # fmt: skip

    def open_device(self, dev):
        return dev

    def close_device(self, dev):
        pass

    def get_parent(self, dev):
        return None

    def ctrl_transfer(self, dev, *request):
        backend = self.sims[dev].backend
        return backend.ctrl_transfer(backend.open_device(None), *request)


def pair() -> list[FoundProgrammer]:
    return find_all(Hub((3, 9, (1, 4), ""), (3, 7, (1, 2), ""), (1, 5, None, "FT1ABCDE")))


def test_devices_come_by_bus_and_port_path() -> None:
    found = pair()
    assert [(item.bus, item.path, item.address, item.serial) for item in found] == [
        (1, (), 5, "FT1ABCDE"), (3, (1, 2), 7, ""), (3, (1, 4), 9, ""),
    ]  # fmt: skip
    assert {item.product for item in found} == {"FT232H Simulated"}
    assert [item.name for item in found] == [
        "FT232H FT1ABCDE", "FT232H at /dev/bus/usb/003/007", "FT232H at /dev/bus/usb/003/009",
    ]  # fmt: skip


def test_the_url_of_a_device_selects_it() -> None:
    found = pair()
    assert [item.url for item in found] == [
        "ftdi://ftdi:232h:FT1ABCDE/1", "ftdi:bus=3,path=1.2", "ftdi:bus=3,path=1.4",
    ]  # fmt: skip
    odd = find_all(Hub((3, 0x1F, None, ""), (2, 3, (1,), "7"), (2, 4, (2,), "A:B/C")))
    assert odd[2].url == "ftdi://ftdi:232h:3:1f/1"
    for item in found:
        assert select(found, parse_url(item.url).selector, item.url) is item
    for item in odd:
        assert select(odd, parse_url(item.url).selector, item.url) is item


def test_selection() -> None:
    found = pair()
    first, second, third = found
    assert select(found, FtdiSelector(serial="FT1ABCDE"), "u") is first
    assert select(found, FtdiSelector(index=2), "u") is second
    assert select(found, FtdiSelector(bus=3, index=2), "u") is third
    assert select(found, FtdiSelector(bus=3, address=9), "u") is third
    assert select(found, FtdiSelector(bus=3, path=(1, 2)), "u") is second
    assert select(found[:1], FtdiSelector(), "u") is first


def test_two_devices_without_serials_are_ambiguous_and_listed() -> None:
    with pytest.raises(ProgrammerError) as caught:
        select(pair(), FtdiSelector(bus=3), "ftdi:bus=3")
    assert (caught.value.code, caught.value.exit_code) == ("programmer.ambiguous", 3)
    assert caught.value.context["attached"] == ["ftdi:bus=3,path=1.2", "ftdi:bus=3,path=1.4"]


def test_no_match_and_no_device_are_absent() -> None:
    with pytest.raises(ProgrammerAbsent, match="matches ftdi:bus=9") as caught:
        select(pair(), FtdiSelector(bus=9), "ftdi:bus=9")
    assert len(caught.value.context["attached"]) == 3
    with pytest.raises(ProgrammerAbsent, match="no FT232H is attached") as caught:
        select([], FtdiSelector(), "u")
    assert caught.value.context["attached"] == []


@pytest.mark.parametrize("index", [0, 4])
def test_an_index_beyond_the_devices(index: int) -> None:
    with pytest.raises(UsageError) as caught:
        select(pair(), FtdiSelector(index=index), "u")
    assert caught.value.code == "usage.url"


def refuse(number: int):
    def fail(*_: object, **__: object):
        raise usb.core.USBError("no", -1, number)

    return fail


def test_a_serial_that_may_not_be_read_is_inaccessible_not_absent() -> None:
    hub = Hub((3, 7, (1, 2), "FT1ABCDE"))
    hub.open_device = refuse(errno.EACCES)
    found = find_all(hub)
    assert [(item.serial, item.product) for item in found] == [(None, None)]
    assert found[0].url == "ftdi:bus=3,path=1.2"
    assert found[0].name == "FT232H at /dev/bus/usb/003/007"
    assert select(found, FtdiSelector(), "u") is found[0]
    with pytest.raises(ProgrammerInaccessible) as caught:
        select(found, FtdiSelector(serial="FT1ABCDE"), "u")
    assert caught.value.context["device"] == "FT232H at /dev/bus/usb/003/007"
    with pytest.raises(ProgrammerAbsent):
        select(found, FtdiSelector(serial="FT1ABCDE", bus=4), "u")


def test_no_devices() -> None:
    assert find_all(Hub()) == []


def test_libusb_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(**_: object):
        raise usb.core.NoBackendError("No backend available")

    monkeypatch.setattr(usb.core, "find", nothing)
    with pytest.raises(EnvironmentFault) as caught:
        find_all()
    assert (caught.value.code, caught.value.exit_code) == ("environment.libusb", 3)
    assert caught.value.context["library"] == "libusb-1.0.so.0"


def test_a_usb_that_cannot_be_listed() -> None:
    hub = Hub((3, 7, (1, 2), ""))
    hub.enumerate_devices = refuse(errno.EIO)
    with pytest.raises(HwflashError) as caught:
        find_all(hub)
    assert (caught.value.code, caught.value.exit_code) == ("environment.usb", 3)
    assert caught.value.context["errno"] == "EIO"
