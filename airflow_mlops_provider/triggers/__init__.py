"""What waits in the triggerer; each decision is a function of ``steps``."""
