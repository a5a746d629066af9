"""Histories of what four vendors really send about the same few people, and our own doors beside them."""
