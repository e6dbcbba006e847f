"""hwflash in a labgrid lab: ``imports: [hwflash_labgrid]`` in an environment file.

Importing this module tells labgrid of the resources and drivers; `hwflash_labgrid.exporter` is the
exporter that offers them.
"""

from hwflash_labgrid.driver import HwflashDriver, HwflashSerprogDriver
from hwflash_labgrid.errors import HwflashError
from hwflash_labgrid.resources import HwflashProgrammer, NetworkHwflashProgrammer

__all__ = [
    "HwflashDriver",
    "HwflashError",
    "HwflashProgrammer",
    "HwflashSerprogDriver",
    "NetworkHwflashProgrammer",
]
