"""A Linux machine in QEMU, made of Debian packages that are never installed here.

The kernel with its modules, busybox and usbip come from Debian's archive by apt, with lists and
caches of its own below a cache folder; flashrom and its libraries are copied from this computer.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

KERNEL = "linux-image-amd64"
#: In the order in which they are loaded.
MODULES = ("e1000", "usb-common", "usbcore", "usbip-core", "vhci-hcd")
#: Loaded on demand: the kernel's own driver for FTDI serial ports.
SERIAL_MODULES = ("usbserial", "ftdi_sio")


class GuestUnavailable(Exception):
    """The archive cannot be reached, or its packages are not as expected."""


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "hwflash-tests" / "linux-guest"


def run(*command: str, cwd: Path | None = None, timeout: float = 300) -> str:
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=timeout,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise GuestUnavailable(f"{command[0]}: {exc}") from exc
    if done.returncode:
        raise GuestUnavailable(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


class Apt:
    """apt with folders of its own: works for any user and leaves the computer's lists alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._options = [
            "-o", f"Dir::State::Lists={folder / 'lists'}",
            "-o", f"Dir::Cache={folder / 'cache'}",
            "-o", "APT::Sandbox::User=",
            "-o", "Acquire::Languages=none",
            "-o", "Acquire::Retries=2",
            "-o", "APT::Update::Post-Invoke=",
        ]  # fmt: skip

    def update(self) -> None:
        run("apt-get", *self._options, "-qq", "update")

    def depends(self, package: str) -> list[str]:
        text = run("apt-cache", *self._options, "depends", "--important", package)
        return re.findall(r"(?m)^ *Depends: (\S+)$", text)

    def unpack(self, package: str, into: Path, *patterns: str) -> None:
        """Download a package and take files out of it."""
        scratch = self._folder / "download"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        run("apt-get", *self._options, "-qq", "download", package, cwd=scratch)
        (found,) = scratch.glob("*.deb")
        into.mkdir(parents=True, exist_ok=True)
        command = 'dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --wildcards "${@:3}"'
        run("bash", "-o", "pipefail", "-c", command, "bash", str(found), str(into), *patterns)
        shutil.rmtree(scratch)


def parts() -> Path:
    """A folder with vmlinuz, the modules, busybox and usbip; made once.

    Raises:
        GuestUnavailable: the archive cannot be reached.
    """
    folder = cache_folder()
    wanted = folder / "parts"
    if wanted.exists():
        return wanted
    folder.mkdir(parents=True, exist_ok=True)
    raw, made = folder / "raw", folder / "parts.new"
    for old in (raw, made):
        shutil.rmtree(old, ignore_errors=True)
    apt = Apt(folder / "apt")
    apt.update()
    (kernel,) = (name for name in apt.depends(KERNEL) if name.startswith("linux-image-"))
    modules = (*MODULES, *SERIAL_MODULES)
    apt.unpack(kernel, raw, "./boot/vmlinuz-*", *(f"*/{name}.ko*" for name in modules))
    apt.unpack("busybox-static", raw, "*/bin/busybox")
    apt.unpack("usbip", raw, "*/sbin/usbip")
    made.mkdir()
    sources = {"vmlinuz": "vmlinuz-*", "busybox": "busybox", "usbip": "usbip"}
    sources |= {f"{name}.ko": f"{name}.ko*" for name in modules}
    for name, pattern in sources.items():
        found = [path for path in raw.rglob(pattern) if path.is_file()]
        if len(found) != 1:
            raise GuestUnavailable(f"{pattern}: {len(found)} files")
        if found[0].suffix == ".xz":
            (made / name).write_bytes(_unxz(found[0]))
        else:
            shutil.copy(found[0], made / name)
    made.rename(wanted)
    for old in (raw, folder / "apt"):
        shutil.rmtree(old)
    return wanted


def _unxz(path: Path) -> bytes:
    import lzma

    return lzma.decompress(path.read_bytes())


def libraries(program: Path) -> list[Path]:
    """The shared objects a program needs, the loader included, where they are here."""
    text = run("ldd", str(program))
    if "not found" in text:
        raise GuestUnavailable(f"{program}: {text}")
    return [Path(name) for name in re.findall(r"(/\S+) \(0x", text)]


class Initramfs:
    """A root folder in memory, in the cpio format the kernel takes.

    Ref: Linux, Documentation/driver-api/early-userspace/buffer-format.rst ("newc").
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._number = 0
        self._folders: set[str] = set()

    def add(self, name: str, content: bytes, mode: int = 0o644) -> None:
        self._parents(name)
        self._entry(name, content, stat.S_IFREG | mode)

    def copy(self, source: Path, name: str | None = None) -> None:
        self.add((name or str(source)).lstrip("/"), source.read_bytes(), 0o755)

    def program(self, source: Path, name: str) -> None:
        """A program with its libraries at their places."""
        self.copy(source, name)
        for library in libraries(source):
            if str(library) not in self._folders:
                self._folders.add(str(library))
                self.copy(library)

    def folder(self, name: str) -> None:
        self._parents(f"{name}/")

    def link(self, name: str, target: str) -> None:
        self._parents(name)
        self._entry(name, target.encode(), stat.S_IFLNK | 0o777)

    def finish(self) -> bytes:
        self._entry("TRAILER!!!", b"", 0)
        return bytes(self._data)

    def _parents(self, name: str) -> None:
        above = ""
        for part in name.split("/")[:-1]:
            above = f"{above}/{part}" if above else part
            if above not in self._folders:
                self._folders.add(above)
                self._entry(above, b"", stat.S_IFDIR | 0o755)

    def _entry(self, name: str, content: bytes, mode: int) -> None:
        self._number += 1
        encoded = name.encode() + b"\0"
        fields = (self._number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        self._data += b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        self._data += bytes(-len(self._data) % 4)
        self._data += content
        self._data += bytes(-len(self._data) % 4)


PREPARE = """#!/bin/busybox sh
export PATH=/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tmpfs none /run
for module in {modules}; do insmod /modules/$module.ko || echo "FAILED insmod $module"; done
ifconfig lo up
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
echo "UP $(cut -d' ' -f1 /proc/uptime)"
{{ {script}
}} </dev/null 2>&1
echo "END"
poweroff -f
"""


def initramfs(script: str, files: dict[str, bytes], programs: dict[str, Path]) -> bytes:
    """A root with busybox, usbip, the programs and the files, that runs a shell script."""
    found = parts()
    root = Initramfs()
    for folder in ("proc", "sys", "dev", "run", "tmp"):
        root.folder(folder)
    root.link("var/run", "/run")
    root.copy(found / "busybox", "bin/busybox")
    applets = (
        "sh mount insmod ifconfig cut cat echo sleep poweroff ls grep sed head rm kill timeout "
        "sha256sum dmesg seq test ["
    )
    for name in applets.split():
        root.link(f"bin/{name}", "busybox")
    root.program(found / "usbip", "bin/usbip")
    for name, path in programs.items():
        root.program(path, f"bin/{name}")
    for name in (*MODULES, *SERIAL_MODULES):
        root.add(f"modules/{name}.ko", (found / f"{name}.ko").read_bytes())
    for name, content in files.items():
        root.add(name, content)
    text = PREPARE.format(modules=" ".join(MODULES), script=script)
    root.add("init", text.encode(), 0o755)
    return root.finish()


def boot(qemu: str, root: Path, timeout: float) -> str:
    """Run a machine until it powers off; what its console showed.

    Raises:
        subprocess.TimeoutExpired: it took too long; it has been ended.
    """
    done = subprocess.run(
        [
            qemu, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc",
            "-accel", "tcg", "-m", "512", "-smp", "1", "-no-reboot",
            "-kernel", str(parts() / "vmlinuz"), "-initrd", str(root),
            "-append", "console=ttyS0 quiet loglevel=0 panic=-1 mitigations=off random.trust_cpu=1",
            "-netdev", "user,id=net", "-device", "e1000,netdev=net,romfile=",
            "-serial", "stdio",
        ],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout,
    )  # fmt: skip
    console = done.stdout.decode("utf-8", "replace").replace("\r\n", "\n")
    assert not done.returncode, done.stderr.decode("utf-8", "replace") + console
    return console
