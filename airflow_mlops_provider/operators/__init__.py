"""One file per step: build the hook, call the step, log once, return the record."""
