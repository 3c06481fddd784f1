"""The heart: what a job is, who holds it, how it ends."""
