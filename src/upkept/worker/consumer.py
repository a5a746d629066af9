"""The worker's side of the broker connection, as Celery makes it but for one step."""

from __future__ import annotations

from typing import ClassVar, Final

from celery.worker.consumer import Consumer as CelerysConsumer

DELAYED: Final = "celery.worker.consumer.delayed_delivery:DelayedDelivery"


class Consumer(CelerysConsumer):  # type: ignore[misc]  # Celery has no types
    """A consumer that prepares no delayed delivery.

    Where it sees quorum queues Celery declares 28 queues and as many exchanges for tasks with an ETA, and warns of each
    queue of ours that it could not bind to them. Our tasks have no ETA (time stands in SQL), and an account on
    somebody's RabbitMQ may not be allowed to declare what is not its own.
    """

    class Blueprint(CelerysConsumer.Blueprint):  # type: ignore[misc]
        """The same steps without that one."""

        default_steps: ClassVar[list[str]] = [
            step for step in CelerysConsumer.Blueprint.default_steps if step != DELAYED
        ]
