"""TaskFlow forms, where a function is the natural unit."""
