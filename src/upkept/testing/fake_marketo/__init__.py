"""A stand-in for Marketo: `upkept.testing.fake_marketo.server` tells what it does."""

from upkept.testing.fake_marketo.server import FakeMarketo

__all__ = ["FakeMarketo"]
