"""What every pull does with cursors: where an incremental one begins, and whether a list goes round in circles."""

from __future__ import annotations

from datetime import UTC, datetime

from upkept.contract.errors import Permanent, Retryable


def since(cursor: str) -> datetime | None:
    """The time, in UTC, of a cursor `since:<ISO time>`; None for any other cursor.

    Raises `Permanent` for a time that is none.
    """
    return moment(cursor.removeprefix("since:")) if cursor.startswith("since:") else None


def moment(text: str) -> datetime:
    """An ISO 8601 time; UTC where it names no zone. Raises `Permanent` for what is none."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise Permanent("the start of a pull must be an ISO 8601 time, as in since:2026-11-24T10:00:00Z") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def onward(
    last: str, *, before: str | None, mark: str | None, pages: int, vendor: str, endpoint: str
) -> tuple[int, str | None]:
    """The number of pages and the mark, after a page that ends at `last` and has more to come.

    `before` is where the page began. Raises `Retryable` if the list goes round in circles of any length (Brent: keep
    one end of a page, the mark, and renew it when the number of pages is a power of two; one that comes again is a
    circle).
    """
    pages += 1
    if last in (before, mark):
        raise Retryable(
            f"{vendor} {endpoint}: the list does not advance (page {pages} ends where an earlier one did); "
            f"the hub asks again; if it persists, look at what stands between the hub and {vendor}"
        )
    return pages, last if pages & (pages - 1) == 0 else mark
