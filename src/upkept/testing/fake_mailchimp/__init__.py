"""A stand-in for Mailchimp: `upkept.testing.fake_mailchimp.server` tells what it does."""

from upkept.testing.fake_mailchimp.server import FakeMailchimp

__all__ = ["FakeMailchimp"]
