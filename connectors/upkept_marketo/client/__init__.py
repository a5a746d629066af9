"""Talking to Marketo over httpx. Nothing outside of this package does."""

from upkept_marketo.client.probe import probe
from upkept_marketo.client.pull import pull
from upkept_marketo.client.push import push, push_many
from upkept_marketo.client.read import fetch, fetch_many

__all__ = ["fetch", "fetch_many", "probe", "pull", "push", "push_many"]
