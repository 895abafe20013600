"""Deliver a published version of a pipeline to the environments that run it."""
