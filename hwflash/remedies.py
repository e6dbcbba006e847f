"""What to do about a check of `hwflash.jobs.doctor` that did not end well, by its remedy code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: What to do, by the remedy code of a check.
REMEDIES: Final[Mapping[str, str]] = {
    "doctor.libusb": "apt-get install libusb-1.0-0",
    "doctor.pyserial": "pip install pyserial",
    "doctor.udev-rules": "sudo hwflash doctor --install-udev",
    "doctor.group-missing": "sudo systemd-sysusers",
    "doctor.group-member": "sudo usermod -aG hwflash $USER, then log in again",
    "doctor.group-login": "log in again, so that the new group counts",
    "doctor.no-programmer": "plug the programmer in; sim://w25q128jv works without",
    "doctor.node-missing": "unplug the programmer and plug it in again",
    "doctor.node-access": "sudo hwflash doctor --install-udev, then plug it in again",
    "doctor.node-world": "replace the rule that makes it writable for everybody",
    "doctor.device-busy": "end the process that holds it",
    "doctor.kernel-driver": "nothing: the driver is detached while the programmer is in use",
    "doctor.qemu": "apt-get install qemu-system-x86 qemu-system-arm",
    "doctor.ovmf": "apt-get install ovmf qemu-efi-aarch64",
    "doctor.flashrom": "apt-get install flashrom (only hwflash's own tests need it)",
    "doctor.state": "set HWFLASH_STATE_DIR to a folder you can write",
    "doctor.state-private": "chmod 700 on the state directory",
    "doctor.disk": "make room, or set HWFLASH_STATE_DIR to another disk",
}
