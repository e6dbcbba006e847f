"""CPU time the host spends to read and to program 16 MiB through the simulated FT232H.

    python benchmarks/host_cpu.py -o host_cpu.json

The simulator runs in the same process, so the figures are an upper bound of what the driver
costs. They are set against the modelled time of the same job (see `hwflash bench`): at most a
quarter of it keeps four programmers busy on one computer.
"""

from __future__ import annotations

import time

import pyperf

from hwflash.jobs.bench import Bench

JOBS = ("read all", "program blank")


def cpu_seconds(loops: int, job: str) -> float:
    spent = 0.0
    for _ in range(loops):
        row = next(row for row in Bench("W25Q128JV").rows() if row.job == job)
        spent += row.cpu
    return spent


if __name__ == "__main__":
    runner = pyperf.Runner(values=1, warmups=0, processes=5, loops=1)
    for name in JOBS:
        runner.bench_time_func(f"{name}, 16 MiB, CPU seconds", cpu_seconds, name)
    if runner.args.worker is False:
        start = time.monotonic()
        for row in Bench("W25Q128JV").rows():
            if row.job in JOBS:
                print(f"{row.job}: modelled {row.seconds:.2f} s, CPU {row.cpu / row.seconds:.1%}")
            if row.job == JOBS[-1]:
                break
        print(f"(measured in {time.monotonic() - start:.1f} s)")
