"""Tailor's HTTP service and shared domain: catalogue, jobs, files, models, storage. Never imports torch or `worker`."""
