"""Flights from New York in 2013: the example that everyone runs.

Will this scheduled flight arrive more than 15 minutes late? The data is real and free (CC0):
the flights, the weather at the three airports hour by hour, and the planes.
"""
