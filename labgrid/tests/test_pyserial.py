"""labgrid's pyserial-labgrid and hwflash's pyserial are the same module: whichever comes last wins.

Both orders are installed for real, and hwflash's serial features are used with what is then there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

from lab import HWFLASH

#: Run by hwflash's Python: a serprog port, a console, and a console over RFC 2217, whose other end
#: is the library's own PortManager with an echo behind it.
FEATURES = r"""
import os, pty, select, socket, sys, threading, tty
import serial, serial.rfc2217
from hwflash.bus.links import SerialLink
from hwflash.console_port import open_port
from hwflash.errors import ProgrammerAbsent, ProgrammerBusy

assert serial.__file__.startswith(sys.argv[1]), serial.__file__
master, slave = pty.openpty()
tty.setraw(slave)
node = os.ttyname(slave)
link = SerialLink(node, 921600)
try:
    open_port(node)
except ProgrammerBusy:
    pass
else:
    raise AssertionError("two processes hold one port")
link.write(b"\x00\xff")
assert os.read(master, 2) == b"\x00\xff"
os.write(master, b"answer")
assert link.read(100, 5.0) == b"answer"
link.close()
try:
    SerialLink("/dev/nowhere", 9600)
except ProgrammerAbsent:
    pass
port = open_port(node)
os.write(master, b"login: ")
assert port.read(100, 5.0) == b"login: "
port.close()

listener = socket.create_server(("127.0.0.1", 0))
def serve():
    connection = listener.accept()[0]
    device = serial.serial_for_url("loop://", timeout=0.05)  # a pty has no modem lines
    class Peer:
        write = staticmethod(connection.sendall)
    manager = serial.rfc2217.PortManager(device, Peer)
    def upwards():
        while data := connection.recv(1024):
            device.write(b"".join(manager.filter(data)))
    threading.Thread(target=upwards, daemon=True).start()
    while True:
        if data := device.read(device.in_waiting or 1):
            connection.sendall(b"".join(manager.escape(data)))
threading.Thread(target=serve, daemon=True).start()
port = open_port(f"rfc2217://127.0.0.1:{listener.getsockname()[1]}")
port.write(b"\xffroot\n")
got = b""
while len(got) < 6:
    got += port.read(100, 5.0)
assert got == b"\xffroot\n", got
port.close()
print("all of it works with", serial.__version__)
os._exit(0)
"""


def test_in_both_orders(tmp_path: Path) -> None:
    where = tmp_path / "venv"
    venv.create(where)
    (packages,) = where.glob("lib/*/site-packages")

    def pip(*words: str) -> None:
        base = [sys.executable, "-m", "pip", "--python", where / "bin" / "python", "-q"]
        subprocess.run([*map(str, base), *words], check=True, capture_output=True)

    def use() -> str:
        done = subprocess.run(
            [HWFLASH.parent / "python", "-c", FEATURES, str(packages)],
            env={**os.environ, "PYTHONPATH": str(packages)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    pip("install", "--no-deps", "pyserial")
    pip("install", "--no-deps", "pyserial-labgrid")
    assert use().startswith("all of it works with 3.5.0.")
    # Taking either away takes the module away, because each claims the files.
    pip("uninstall", "--yes", "pyserial")
    assert not (packages / "serial" / "__init__.py").exists()
    # The other order; and how to mend it.
    pip("install", "--no-deps", "pyserial")
    assert use() == "all of it works with 3.5"
