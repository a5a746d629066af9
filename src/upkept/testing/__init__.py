"""Shipped with the product: proofs for connectors, and stand-ins for vendors that misbehave as they do."""
