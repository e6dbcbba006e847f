"""Resources: a programmer by its hwflash URL, here or on an exporter."""

from __future__ import annotations

import attr
from attr.validators import instance_of, optional
from labgrid.factory import target_factory
from labgrid.resource.common import NetworkResource, Resource


@attr.s(eq=False)
class _Programmer:
    """What both kinds of programmer have.

    Args:
        url: programmer URL, as ``hwflash -p`` takes it.
        board: name of a board, or path of a board file, on the computer with the programmer.
        state_dir: hwflash's state directory there, for backups, journals and history; None for
            that of the account. A folder per place makes `HwflashDriver.resume` unambiguous.
    """

    url: str = attr.ib(kw_only=True, validator=instance_of(str))
    board: str | None = attr.ib(default=None, kw_only=True, validator=optional(instance_of(str)))
    state_dir: str | None = attr.ib(
        default=None, kw_only=True, validator=optional(instance_of(str))
    )


@target_factory.reg_resource
@attr.s(eq=False)
class HwflashProgrammer(_Programmer, Resource):
    """A programmer that is attached to this computer."""


@target_factory.reg_resource
@attr.s(eq=False)
class NetworkHwflashProgrammer(_Programmer, NetworkResource):
    """A programmer that is attached to the computer ``host``, reached by ssh."""
