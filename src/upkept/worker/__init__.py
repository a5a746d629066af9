"""The worker and the courier: five-line tasks around the steps of the flow, the sweeper and the beat."""

import os

# SIGTERM ends a worker softly: tasks get 15 s, what is left goes back to the broker. Celery reads this once, at import.
os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
