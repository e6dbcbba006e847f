"""A flash model inside QEMU, opened as a programmer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hwflash.bus.url import ProgrammerUrl
from hwflash.jobs.lock import ProgrammerLock
from hwflash.jobs.programmer import Programmer


def open_qemu(
    url: ProgrammerUrl, frequency: float, lock: Callable[[str], ProgrammerLock]
) -> Programmer:
    """A QEMU process with the chip model that the URL names.

    Args:
        url: a ``qemu`` URL.
        frequency: SCK in hertz.
        lock: makes the lock for a device.

    Raises:
        ProgrammerBusy: another process uses the image.
        HwflashError: see `hwflash.bus.qemu_spi.QemuSpiBus`.
    """
    from hwflash.bus.qemu_spi import QemuSpiBus

    text = url.options.get("image")
    image = Path(text) if text else None
    # Named as a simulated programmer's: both must not use one image at the same time.
    held = lock(f"sim-{image.resolve()}") if image is not None else None

    def give_back() -> None:
        if held is not None:
            held.release()

    try:
        bus = QemuSpiBus(url.target, image, frequency=frequency)
    except BaseException:
        give_back()
        raise

    def release() -> None:
        try:
            bus.close()
        finally:
            give_back()

    name = f"QEMU {bus.version} with {url.target}"
    return Programmer(url.lasting, name, bus, simulated=True, release=release)
