"""The whole stack on one machine, for demonstrations and tests. Needs the extra ``serving``."""
