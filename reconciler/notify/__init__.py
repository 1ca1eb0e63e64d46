"""Webhooks: when an account's notifications are sent, to which address, and with which retries."""
