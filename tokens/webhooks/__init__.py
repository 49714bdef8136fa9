"""Webhooks: endpoints, and the delivery of what stands in the outbox (portal/outbox.py)."""
