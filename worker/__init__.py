"""Tailor's workers: Celery processes that lease and supervise jobs, and the child process that trains."""
