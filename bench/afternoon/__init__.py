"""What a user would write in an afternoon: an endpoint, `construct_event`, a Celery task and an ORM session per event.

Kept the way its readers would keep it: no inbox, no order, no deduplication beyond the event's id. It is here to be
measured beside the hub, and to show what is easily got wrong.
"""
