"""The doctor looks at programmer and wires: the contact test as one of its checks."""

from __future__ import annotations

from hwflash.errors import HwflashError, Interrupted, UsageError
from hwflash.jobs.contact import ContactReport, contact_test
from hwflash.jobs.doctor_host import Check, Status
from hwflash.jobs.opening import Request
from hwflash.progress import CancelToken, Reporter

EXPECTED = "a chip that answers alike at every clock"


def check_bus(
    request: Request, reporter: Reporter, cancel: CancelToken
) -> tuple[Check, ContactReport | None]:
    """Whether wires and chip are good, and all that the contact test found.

    A programmer that cannot be used fails the check; there is no report then.

    Raises:
        UsageError: a bad URL.
        Interrupted: stopped.
    """
    try:
        report = contact_test(request, reporter, cancel)
    except (UsageError, Interrupted):
        raise
    except HwflashError as error:
        facts: dict[str, object] = {"error": error.code}
        return Check("bus", Status.FAIL, error.message, EXPECTED, error.code, facts), None
    status = Status.OK if report.good else Status.FAIL
    return Check("bus", status, report.verdict.text, EXPECTED, context=report.as_dict()), report
