"""Ten thousand unsubscribes at three vendors, with a real hub between them: none lost, none taken back.

First some hundreds without faults, timed: from the click until the hub holds the opt-out, and until every other vendor
does. Then the rest in bursts, while webhooks are dropped, doubled, late and in no order, vendors answer with errors or
not at all, workers and couriers are killed, and imports and sales teams say that all may be mailed. At the end the
faults are over and one more poll of each vendor is done; then everybody must be unsubscribed here and everywhere.
"""
