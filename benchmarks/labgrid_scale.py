"""Forty places of a labgrid lab, on this computer, and what limits them.

    .venv/labgrid/bin/python benchmarks/labgrid_scale.py [--places 40] [--exporters 4]
        [--at-once 2 8 20] [--part w25q80dv]

A real coordinator, real exporters, an sshd per exporter, and simulated chips; only the loopback
interface. CI agents, each a process with its own labgrid session, take places from a queue:
acquire, load an image of random bytes into an erased chip, verify, release. Before that the
coordinator alone is measured, and after it the same writes without labgrid.

CPU seconds are exact, whatever else this computer does; seconds on the clock are not, so the load
average is printed with them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "labgrid" / "tests"))
from lab import HWFLASH, Client, Lab
from labgrid.util.ssh import sshmanager

STEPS = ("acquire", "load", "verify", "release")


class Address:
    """What a `Client` in another process needs of the lab."""

    def __init__(self, lab: Lab) -> None:
        self.address = lab.address
        self.environ = lab.environ


def agent(number: int, where: Any, image: str, queue: Any, results: Any) -> None:
    """One CI agent: takes places until there are no more."""
    with Path(os.devnull).open("w") as sys.stdout:
        client = Client(where, user=f"agent{number}")
        while (place := queue.get()) is not None:
            times: list[float] = []

            def timed(action: Any, times: list[float] = times) -> None:
                began = time.perf_counter()
                action()
                times.append(time.perf_counter() - began)

            timed(lambda place=place: client.acquire(place))
            driver = client.driver(place)
            timed(lambda driver=driver: driver.load(image))
            timed(lambda driver=driver: driver.verify(image))
            driver.target.deactivate_all_drivers()
            timed(lambda place=place: client.release(place))
            results.put((place, times))
        client.close()
        sshmanager.close_all()


def cpu(pid: int) -> float:
    """CPU seconds of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def used(lab: Lab) -> dict[str, float]:
    """CPU seconds so far, by who used them."""
    hosts = lab.hosts.values()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "coordinator": cpu(lab.coordinator.process.pid) if lab.coordinator else 0.0,
        "exporters": sum(cpu(host.exporter.process.pid) for host in hosts if host.exporter),
        "sshd and hwflash": sum(cpu(host.sshd.process.pid) for host in hosts if host.sshd),
        "agents and ssh": children.ru_utime + children.ru_stime,
    }


def run(lab: Lab, places: list[str], image: Path, at_once: int) -> None:
    for host in lab.hosts.values():
        for chip in host.folder.glob("*.bin*"):
            chip.unlink()
    context = multiprocessing.get_context("spawn")
    queue, results = context.Queue(), context.Queue()
    for place in [*places, *[None] * at_once]:
        queue.put(place)
    before, began = used(lab), time.perf_counter()
    agents = [
        context.Process(target=agent, args=(number, Address(lab), str(image), queue, results))
        for number in range(at_once)
    ]
    for process in agents:
        process.start()
    times = dict(results.get() for _ in places)
    seconds = time.perf_counter() - began
    for process in agents:
        process.join()
    spent = {name: value - before[name] for name, value in used(lab).items()}
    size = image.stat().st_size
    for host in lab.hosts.values():
        for chip in host.folder.glob("*.bin"):
            if chip.read_bytes() != image.read_bytes():
                raise SystemExit(f"{chip} holds something else")
    print(f"\n{at_once} at once: {len(places)} boards in {seconds:.1f} s, "
          f"{60 * len(places) / seconds:.0f} boards/min, "
          f"{len(places) * size / seconds / 1024:.0f} KiB/s "
          f"(load average {os.getloadavg()[0]:.0f})")  # fmt: skip
    for number, step in enumerate(STEPS):
        each = sorted(item[number] for item in times.values())
        print(f"  {step:<8} median {statistics.median(each):6.2f} s, longest {each[-1]:6.2f} s")
    total = sum(spent.values())
    for name, value in spent.items():
        print(f"  CPU of {name:<17} {value:6.1f} s, {value / len(places):5.2f} s a board")
    print(f"  CPU in all {total:.1f} s: {100 * total / seconds / (os.cpu_count() or 1):.0f} % of "
          f"{os.cpu_count()} cores; all of them would do "
          f"{60 * (os.cpu_count() or 1) / (total / len(places)):.0f} boards/min")  # fmt: skip


def coordinator_alone(lab: Lab, places: list[str]) -> None:
    """Acquire and release, one after the other, from one session."""
    client = Client(lab)
    before, began = used(lab), time.perf_counter()
    with Path(os.devnull).open("w") as null:
        stdout, sys.stdout = sys.stdout, null
        for place in places:
            client.acquire(place)
        middle = time.perf_counter()
        for place in places:
            client.release(place)
        sys.stdout = stdout
    end = time.perf_counter()
    client.close()
    spent = used(lab)["coordinator"] - before["coordinator"]
    print(f"coordinator alone: {len(places) / (middle - began):.0f} acquires/s, "
          f"{len(places) / (end - middle):.0f} releases/s, one after the other; "
          f"{1000 * spent / len(places):.1f} ms of its CPU for both")  # fmt: skip


def without_labgrid(folder: Path, part: str, image: Path, count: int) -> None:
    """The same write and verify by hwflash alone, as many at once as there are cores."""
    environ = {**os.environ, "HWFLASH_STATE_DIR": str(folder / "alone")}

    def one(number: int) -> None:
        url = f"sim://{part}?image={folder}/alone-{number}.bin"
        for verb in (["write", "--yes"], ["verify"]):
            words = [HWFLASH, *verb, image, "-p", url, "--json"]
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=environ)

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, range(count)))
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"\nwithout labgrid: {count} boards in {seconds:.1f} s; CPU {spent / count:.2f} s a board"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Forty simulated places of a labgrid lab.")
    parser.add_argument("--places", type=int, default=40)
    parser.add_argument("--exporters", type=int, default=4)
    parser.add_argument("--at-once", type=int, nargs="+", default=[2, 8, 20])
    parser.add_argument("--part", default="w25q80dv")
    parser.add_argument("--size", type=int, default=1 << 20, help="of that part")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="labgrid-scale-"))
    lab = Lab(folder, [f"host{number}" for number in range(options.exporters)])
    image = folder / "image.bin"
    image.write_bytes(os.urandom(options.size))
    names = list(lab.hosts)
    found = {f"place{i}": (names[i % len(names)], f"place{i}") for i in range(options.places)}
    try:
        lab.start_coordinator(found)
        for host in lab.hosts.values():
            host.start_sshd()
            mine = [place for place, (name, _) in found.items() if name == host.name]
            host.start_exporter({
                place: {
                    "HwflashProgrammer": {
                        "url": f"sim://{options.part}?image={host.folder}/{place}.bin",
                        "state_dir": f"{host.folder}/state-{place}",
                    }
                }
                for place in mine
            })  # fmt: skip
        print(f"{options.places} places, {options.exporters} exporters, {options.part}, "
              f"{os.cpu_count()} cores")  # fmt: skip
        coordinator_alone(lab, list(found))
        for at_once in options.at_once:
            run(lab, list(found), image, at_once)
        without_labgrid(folder, options.part, image, 10)
    finally:
        lab.stop()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
