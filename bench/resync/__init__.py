"""Resyncs at size and under kills, by real processes: `make resync`.

A full resync of people whom nothing happened to must write nothing, push nothing, and hold no more memory at its end
than in its middle. And whichever of the processes is killed at whichever page of a walk, or amid pushes, the end is
that of a run that nobody disturbed: the same digest, the same vendor.
"""
