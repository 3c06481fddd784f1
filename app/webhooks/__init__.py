"""Webhooks: endpoints, the outbox of events for them, deliveries and their log."""
