"""The command table of one simulated die."""

from __future__ import annotations

from hwflash.sim.die_aai import AaiCommands
from hwflash.sim.die_command import Command
from hwflash.sim.die_config import ConfigCommands
from hwflash.sim.die_control import ControlCommands
from hwflash.sim.die_core import DieCore
from hwflash.sim.die_otp_commands import OtpCommands
from hwflash.sim.die_reads import ReadCommands
from hwflash.sim.die_sector_commands import SectorLockCommands
from hwflash.sim.die_stack import StackCommands
from hwflash.sim.die_status import StatusCommands
from hwflash.sim.die_writes import WriteCommands


def build_table(
    die: DieCore, sfdp: bytes | None, unique_id: bytes | None, seed: int
) -> dict[int, Command]:
    """Command by opcode, for the chip the die is."""
    table = {
        **ReadCommands(die, sfdp, unique_id, seed).table,
        **StatusCommands(die).table,
        **WriteCommands(die).table,
        **ControlCommands(die).table,
        **SectorLockCommands(die).table,
        **ConfigCommands(die).table,
        **AaiCommands(die).table,
        **StackCommands(die).table,
    }
    return {**table, **OtpCommands(die, table).table}
