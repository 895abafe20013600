"""Experiments on live traffic: A/B tests, which end on evidence, and a bandit."""
