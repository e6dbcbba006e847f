"""hwflash: program and verify SPI NOR flash on real boards.

The package itself imports nothing, so that ``import hwflash`` is free; take what you need
from its rooms (see ``docs/architecture.md``).
"""

from __future__ import annotations

__version__ = "0.1.0"
