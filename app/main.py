"""The HTTP service: `create_app()`."""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from app.api import catalog, docs, errors, evaluations, files, fine_tuning, health, models, openapi, uploads, webhooks
from app.api.request_bodies import RequestBodies
from app.api.request_context import RequestContext
from app.api.state import serving
from app.settings import Settings, get_settings

STREAMED = re.compile(r"POST /v1/(files|uploads/[^/]+/parts)")
DESCRIPTION = """Fine-tunes language models for a domain. The surface is OpenAI's files, uploads, fine-tuning, models
and webhooks API, extended: the official `openai` SDK drives it with `base_url` set to this server's `/v1`."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application. It connects to nothing before its first request; migrations are not its business."""
    settings = settings or get_settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with serving(settings) as state:
            app.state.serving = state
            yield

    app = FastAPI(
        title="Tailor",
        version=version("tailor"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
        webhooks=webhooks.sent,
    )
    for router in (
        files.router,
        uploads.router,
        fine_tuning.router,
        evaluations.router,
        models.router,
        webhooks.router,
        catalog.router,
        health.router,
    ):
        app.include_router(router)
    openapi.install(app)
    docs.install(app)
    errors.install(app)
    app.add_middleware(RequestBodies, max_bytes=settings.max_request_bytes, streamed=STREAMED)
    app.add_middleware(RequestContext)
    return app
