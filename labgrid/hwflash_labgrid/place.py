"""Is the place still ours?

A coordinator that is restarted forgets who had which place, and the next client may get it. labgrid
tells a running program nothing of that. So it is asked before every run: a board that may be
somebody else's by now is not written to.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from labgrid.resource.remote import RemotePlaceManager

from hwflash_labgrid.errors import HwflashError

#: How long to listen for what the coordinator has to tell.
_LISTEN: Final = 0.05


def session_of(resource: Any) -> Any | None:
    """The session with the coordinator; None for a resource that is not of a place."""
    if not hasattr(resource, "_remote_entry"):
        return None
    return RemotePlaceManager.get().session  # type: ignore[attr-defined]


def require_ours(resource: Any) -> None:
    """See that the resource's place is still ours, and its exporter there.

    Raises:
        HwflashError: ``labgrid.coordinator-gone``, ``labgrid.exporter-gone`` or
            ``labgrid.not-acquired``.
    """
    session = session_of(resource)
    if session is None:
        return
    # Slow to import, but whoever has a session has it already.
    from labgrid.remote.client import UserError

    if not session.loop.is_running():
        session.loop.run_until_complete(asyncio.sleep(_LISTEN))
    if session.stopping.is_set():
        raise HwflashError(
            "labgrid.coordinator-gone", f"the coordinator at {session.address} is gone"
        )
    try:
        place = session.get_acquired_place(resource.parent.name)
    except UserError as exc:
        raise HwflashError("labgrid.not-acquired", " ".join(exc.args)) from exc
    entry = resource._remote_entry  # labgrid has no other way to ask
    if not entry.data or not entry.avail:
        raise HwflashError(
            "labgrid.exporter-gone",
            f"the programmer of place {place.name} is unplugged, or not exported any more",
        )
