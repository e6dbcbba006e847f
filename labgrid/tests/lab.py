"""A whole lab on the loopback interface: coordinator, exporters, and the ssh that leads to them.

All of it is what a real lab runs: labgrid's own coordinator and exporter, and OpenSSH. labgrid goes
by ssh to every network resource, also one of this computer, so each exporter gets an sshd of its
own, with its own keys and an unprivileged port. `ssh` on the PATH is a script that knows them,
because labgrid has no other way to be told of an ssh configuration that is not the user's.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
HWFLASH = Path(os.environ.get("HWFLASH_BIN", ROOT / ".venv" / "bin" / "hwflash"))
BIN = Path(sys.executable).parent
SSHD = shutil.which("sshd", path="/usr/sbin:/sbin:" + os.environ.get("PATH", ""))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what: str, ready: Callable[[], Any], seconds: float = 90.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := ready():
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come within {seconds} s")


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def descendants(pid: int) -> list[int]:
    """Processes below one, from /proc."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found: list[int] = []
    todo = [pid]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


class Service:
    """A process that is ended with the lab; what it says goes into a file."""

    def __init__(self, words: Iterable[object], log: Path, **options: Any) -> None:
        self.log = log
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [str(word) for word in words],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                **options,
            )

    def said(self, text: str) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"it has ended:\n{self.log.read_text(errors='replace')}")
        return text in self.log.read_text(errors="replace")

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Host:
    """A computer of the lab with programmers: its sshd and its exporter."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.name = name
        self.folder = lab.folder / name
        (self.folder / "tmp").mkdir(parents=True)
        self.state = self.folder / "state"
        self.port = free_port()
        self.sshd: Service | None = None
        self.exporter: Service | None = None

    def start_sshd(self) -> None:
        if os.getuid() == 0:  # where sshd locks itself in; the Debian service makes it
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        config = self.folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.lab.folder}/host_key\n"
            f"AuthorizedKeysFile {self.lab.folder}/user_key.pub\nPidFile none\nStrictModes no\n"
            f"SetEnv HWFLASH_STATE_DIR={self.state} PATH={HWFLASH.parent}:/usr/bin:/bin "
            f"HOME={self.folder} TMPDIR={self.folder / 'tmp'}\n"
            "UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        )
        assert SSHD, "there is no sshd: apt-get install openssh-server"
        self.sshd = Service([SSHD, "-D", "-e", "-f", config], self.folder / "sshd.log")
        wait_for("sshd", lambda: self.sshd and listening(self.port))

    def start_exporter(
        self, groups: Mapping[str, Mapping[str, Any]], program: str = "hwflash-labgrid-exporter"
    ) -> None:
        config = self.folder / "exporter.yaml"
        config.write_text(yaml.safe_dump(dict(groups)))
        log = self.folder / "exporter.log"
        log.unlink(missing_ok=True)
        words = [BIN / program, "-n", self.name, "--hostname", self.name]
        self.exporter = Service([*words, "-c", self.lab.address, config], log, cwd=self.folder)
        wait_for("the exporter", lambda: self.exporter and self.exporter.said("creating poll task"))

    def crash(self) -> None:
        """The power fails: everything that runs on this computer is gone at once."""
        assert self.sshd
        assert self.exporter
        for pid in [*descendants(self.sshd.process.pid), *descendants(self.exporter.process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.exporter.stop(signal.SIGKILL)
        self.sshd.stop(signal.SIGKILL)

    def running(self) -> list[int]:
        """Processes of hwflash that were started over ssh."""
        assert self.sshd
        found: list[int] = []
        for pid in descendants(self.sshd.process.pid):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(word == os.fsencode(HWFLASH) for word in words[:3]):
                found.append(pid)
        return found

    def stop(self) -> None:
        for service in (self.exporter, self.sshd):
            if service is not None:
                service.stop()


class Lab:
    """Coordinator, hosts, and the environment in which a client finds them."""

    def __init__(self, folder: Path, hosts: Iterable[str]) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        for name in ("host_key", "user_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True
            )
        (folder / "coordinator").mkdir()
        self.hosts = {name: Host(self, name) for name in hosts}
        self._write_ssh()
        self.environ = {
            **os.environ,
            "PATH": f"{folder / 'bin'}:{BIN}:{os.environ['PATH']}",
            "LG_COORDINATOR": self.address,
            "LG_USERNAME": "alice",
            "LG_HOSTNAME": "desk",
            "GRPC_VERBOSITY": "NONE",
        }
        self.coordinator: Service | None = None
        #: Port of a chip that outlives its computer's power failures; set by who serves it.
        self.served = 0

    def _write_ssh(self) -> None:
        config = self.folder / "ssh_config"
        key = (self.folder / "host_key.pub").read_text().split()
        known = self.folder / "known_hosts"
        known.write_text(
            "".join(f"[127.0.0.1]:{host.port} {key[0]} {key[1]}\n" for host in self.hosts.values())
        )
        config.write_text(
            "".join(f"Host {host.name}\n  Port {host.port}\n" for host in self.hosts.values())
            + f"Host *\n  HostName 127.0.0.1\n  User {getpass.getuser()}\n"
            f"  IdentityFile {self.folder}/user_key\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {known}\n  BatchMode yes\n"
        )
        script = self.folder / "bin" / "ssh"
        script.parent.mkdir()
        real = shutil.which("ssh")
        assert real, "there is no ssh: apt-get install openssh-client"
        script.write_text(f'#!/bin/sh\nexec {real} -F {shlex.quote(str(config))} "$@"\n')
        script.chmod(0o755)

    def start_coordinator(self, places: Mapping[str, tuple[str, str]] | None = None) -> None:
        """Start it.

        Args:
            places: what the coordinator finds in its places.yaml: places, and the exporter and
                group that each matches. Quicker than a labgrid-client for each.
        """
        if places is not None:
            found = {
                name: {
                    "aliases": [], "comment": "", "tags": {}, "changed": 0.0, "created": 0.0,
                    "matches": [{"exporter": host, "group": group, "cls": "*"}],
                }
                for name, (host, group) in places.items()
            }  # fmt: skip
            (self.folder / "coordinator" / "places.yaml").write_text(yaml.safe_dump(found))
        self.coordinator = Service(
            [BIN / "labgrid-coordinator", "-l", self.address],
            self.folder / "coordinator.log",
            cwd=self.folder / "coordinator",
        )
        port = int(self.address.rpartition(":")[2])
        wait_for("the coordinator", lambda: listening(port))

    def client(self, *words: object, code: int | None = 0, **environ: str) -> str:
        """Run labgrid-client: what it said on both its outputs."""
        done = subprocess.run(
            [BIN / "labgrid-client", *map(str, words)],
            env={**self.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        assert code is None or done.returncode == code, done.stdout
        return done.stdout

    def stop(self) -> None:
        for host in self.hosts.values():
            host.stop()
        if self.coordinator is not None:
            self.coordinator.stop()


class Client:
    """A client of the lab inside this process, as labgrid's pytest plug-in is one."""

    def __init__(self, lab: Lab, user: str = "alice") -> None:
        from labgrid.remote.client import start_session
        from labgrid.resource.common import ResourceManager
        from labgrid.resource.remote import RemotePlaceManager

        os.environ.update({**lab.environ, "LG_USERNAME": user})
        ResourceManager.instances.clear()  # labgrid has one session for a process
        self.session = start_session(lab.address)
        manager = RemotePlaceManager.get()
        manager.session, manager.loop, manager.url = self.session, self.session.loop, lab.address
        manager.env = None

    def acquire(self, place: str) -> None:
        self._ask("Acquire", place)

    def release(self, place: str) -> None:
        self._ask("Release", place)

    def _ask(self, what: str, place: str) -> None:
        """The coordinator's own calls; labgrid-client's are private, and differ by version."""
        from labgrid.remote.generated import labgrid_coordinator_pb2 as messages

        async def ask() -> None:
            request = getattr(messages, f"{what}PlaceRequest")(placename=place)
            await getattr(self.session.stub, f"{what}Place")(request)
            await self.session.sync_with_coordinator()

        self.session.loop.run_until_complete(ask())

    def driver(self, place: str, kind: str = "HwflashDriver", **options: Any) -> Any:
        from labgrid import Target
        from labgrid.factory import target_factory
        from labgrid.resource.remote import RemotePlace

        import hwflash_labgrid

        target = Target(place)
        RemotePlace(target, name=place)
        driver = getattr(hwflash_labgrid, kind)(target, None, **options)
        assert kind in target_factory.drivers
        target.activate(driver)
        return driver

    def close(self) -> None:
        loop = self.session.loop
        if not self.session.stopping.is_set():
            loop.run_until_complete(self.session.stop())
        loop.run_until_complete(self.session.close())
