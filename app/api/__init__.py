"""The HTTP edge: routers parse, call one service function and return."""
