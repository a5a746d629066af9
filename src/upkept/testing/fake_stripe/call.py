"""One call to the Stripe stand-in, once it is admitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from upkept.testing.fake_stripe.forms import Params
from upkept.testing.fake_stripe.ledger import Ledger
from upkept.testing.fake_stripe.table import Object


@dataclass(frozen=True, slots=True)
class Call:
    """One API call: which account it sees, its path's id, its parameters, the version its answer is worded in."""

    ledger: Ledger
    id: str
    params: Params
    version: str
    expand: tuple[str, ...] = ()

    def show(self, of: str, row: Object) -> Object:
        return self.ledger.view(of, row, self.version, self.expand)


Do = Callable[[Call], Object]
