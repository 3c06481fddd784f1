"""Real PostgreSQL and Redis as child processes, from wheels: what `tailor up` and the tests run on."""

from app.embedded.postgres import start_postgres
from app.embedded.redis import start_redis
from app.embedded.server import Server, StartError

__all__ = ["Server", "StartError", "start_postgres", "start_redis"]
