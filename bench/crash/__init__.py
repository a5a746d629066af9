"""Crash safety: kill web, worker, courier, broker and database at random under load and at named failpoints.

Every delivery that was answered 2xx must be applied exactly once in effect, whatever died when. The harness posts
signed Stripe events as the vendor does (again until a 2xx), kills with SIGKILL, starts again what died, waits
until the inbox is quiet, and then judges from the database alone.
"""
