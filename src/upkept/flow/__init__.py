"""The way of a change, one file per step. A step returns what to ring and never rings."""
