"""Commands of `tailor` that are more than a few lines. Each imports what it needs when it runs."""
