"""FCNKIT_MODEL=scene.onnx uvicorn http_server:app; POST an image to /labels, get a label PNG."""

from __future__ import annotations

import asyncio
import io
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import fcnkit

MOST_BYTES = 20_000_000
BACKEND = os.environ.get("FCNKIT_BACKEND", "auto")
segmenter = fcnkit.load(os.environ["FCNKIT_MODEL"], backend=BACKEND)
queue = asyncio.Semaphore(int(os.environ.get("FCNKIT_QUEUE", "8")))
model = ThreadPoolExecutor(1)


def label(content: bytes) -> Response:
    """Decode, run and encode, in the one thread that uses the model."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            labels_hw = segmenter(np.asarray(image.convert("RGB")))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        return PlainTextResponse(f"not an image that can be labeled: {error}", 400)
    png = io.BytesIO()
    Image.fromarray(labels_hw).save(png, "PNG")
    return Response(png.getvalue(), media_type="image/png")


async def labels(request: Request) -> Response:
    """Answer one request, or refuse it if too many wait."""
    if queue.locked():
        return PlainTextResponse("busy; try again", 503, {"Retry-After": "1"})
    async with queue:
        content = bytearray()
        async for part in request.stream():
            content += part
            if len(content) > MOST_BYTES:
                return PlainTextResponse(f"more than {MOST_BYTES} bytes", 413)
        return await asyncio.get_running_loop().run_in_executor(model, label, bytes(content))


app = Starlette(routes=[Route("/labels", labels, methods=["POST"])])
