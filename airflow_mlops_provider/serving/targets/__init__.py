"""Serving targets other than our own host: each is a client that speaks the traffic protocol."""
