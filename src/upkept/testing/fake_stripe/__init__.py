"""A stand-in for Stripe: `upkept.testing.fake_stripe.server` tells what it does."""

from upkept.testing.fake_stripe.server import FakeStripe

__all__ = ["FakeStripe"]
