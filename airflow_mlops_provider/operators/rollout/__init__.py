"""Roll model versions out, on evidence from live traffic."""
