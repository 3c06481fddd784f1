"""The training engine. Everything in here may import torch; nothing in here knows a database or HTTP."""
