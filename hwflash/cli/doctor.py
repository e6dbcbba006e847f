"""``hwflash doctor``."""

from __future__ import annotations

from typing import Any, Final

import click

from hwflash.cli import params, runner

#: What to do, by the remedy code of a check.
REMEDIES: Final = {
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


@click.command("doctor")
@click.option("--install-udev", is_flag=True, help="Write the udev rules and the system group.")
@params.json_option
@runner.command("doctor")
def command(run: runner.Run, install_udev: bool) -> runner.Outcome:
    """Check this computer and say what to do; exit code 1 when something fails."""
    from hwflash.jobs import doctor

    if install_udev:
        written = [str(path) for path in doctor.install_udev()]
        after = [" ".join(words) for words in doctor.AFTER_INSTALL]
        lines = [*(f"wrote {path}" for path in written), "now run:", *(f"  {it}" for it in after)]
        return runner.Outcome({"written": written, "next": after}, lines)
    checks = doctor.run_checks()
    keys = [
        {
            "name": check.name,
            "status": check.status,
            "found": check.found,
            "expected": check.expected,
            "code": check.code,
            "remedy": REMEDIES.get(check.code or ""),
        }
        for check in checks
    ]
    failed = any(check.status == "fail" for check in checks)
    return runner.Outcome({"checks": keys}, _lines(keys), 1 if failed else 0)


def _lines(keys: list[dict[str, Any]]) -> list[str]:
    lines: list[str] = []
    for check in keys:
        lines.append(f"{check['status']:<5} {check['name']}: {check['found']}")
        if check["status"] in ("warn", "fail"):
            if check["expected"]:
                lines.append(f"        expected: {check['expected']}")
            if check["remedy"]:
                lines.append(f"        do: {check['remedy']}")
    return lines
