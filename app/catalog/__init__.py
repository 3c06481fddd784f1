"""The one list of tasks, methods and hyperparameters. Pure: the standard library and pydantic, nothing else."""
