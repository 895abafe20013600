"""Waiting for data, models, endpoints and evidence."""
