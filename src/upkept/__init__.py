"""Upkept: the self-hosted hub that keeps a company's user data right."""

__version__ = "0.1.0"
