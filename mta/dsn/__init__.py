"""Delivery status notifications: what the author of undelivered mail is told."""
