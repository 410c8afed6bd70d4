"""Labels images over HTTP: POST an image file to /labels, get a PNG of labels.

uvicorn http_server:app, with FCNKIT_MODEL=scene.onnx in the environment, and FCNKIT_BACKEND where
auto would choose another one. One thread runs the model;
at most FCNKIT_QUEUE requests (8) wait for it, and further ones are answered with 503 at once.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import fcnkit

MOST_BYTES = 20_000_000


def label(segmenter: fcnkit.Segmenter, content: bytes) -> bytes:
    """Decode, run and encode, in the one thread that uses the model."""
    with Image.open(io.BytesIO(content)) as image:
        labels_hw = segmenter(np.asarray(image.convert("RGB")))
    out = io.BytesIO()
    Image.fromarray(labels_hw).save(out, "PNG")
    return out.getvalue()


async def labels(request: Request) -> Response:
    """Answer one request, or refuse it if too many wait."""
    state = request.app.state
    if state.waiting >= state.most:
        return PlainTextResponse("busy; try again", 503, {"Retry-After": "1"})
    state.waiting += 1
    try:
        content = bytearray()
        async for part in request.stream():
            content += part
            if len(content) > MOST_BYTES:
                return PlainTextResponse(f"more than {MOST_BYTES} bytes", 413)
        loop = asyncio.get_running_loop()
        png = await loop.run_in_executor(state.thread, label, state.segmenter, bytes(content))
        return Response(png, media_type="image/png")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        return PlainTextResponse(f"not an image that can be labeled: {error}", 400)
    finally:
        state.waiting -= 1


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Open the model once, and close it after the last request."""
    app.state.waiting, app.state.most = 0, int(os.environ.get("FCNKIT_QUEUE", "8"))
    backend = os.environ.get("FCNKIT_BACKEND", "auto")
    model = fcnkit.load(os.environ["FCNKIT_MODEL"], backend=backend)
    with model as app.state.segmenter, ThreadPoolExecutor(1) as app.state.thread:
        yield


app = Starlette(routes=[Route("/labels", labels, methods=["POST"])], lifespan=lifespan)
