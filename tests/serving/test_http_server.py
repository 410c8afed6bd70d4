"""docs/examples/http_server.py under load: right labels, a bounded queue, clear refusals."""

from __future__ import annotations

import http.client
import io
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fcnkit

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
MOST = 3


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def post(port: int, content: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/labels", content)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


@pytest.fixture(scope="module")
def server(exported: dict[str, Path]) -> Iterator[int]:
    """The port of a server with room for three requests."""
    pytest.importorskip("starlette", reason="starlette is not installed")
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    port = free_port()
    settings = {"FCNKIT_MODEL": str(exported["scene"]), "FCNKIT_QUEUE": str(MOST)}
    command = [sys.executable, "-m", "uvicorn", "http_server:app", "--port", str(port)]
    with subprocess.Popen(command, cwd=EXAMPLES, env={**os.environ, **settings}) as process:
        for _ in range(1200):
            assert process.poll() is None
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        yield port
        process.terminate()


@pytest.fixture(scope="module")
def picture() -> bytes:
    image = np.random.default_rng(5).integers(0, 256, (131, 97, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def test_it_answers_with_the_labels_of_load(
    server: int, picture: bytes, exported: dict[str, Path]
) -> None:
    status, body = post(server, picture)
    assert status == 200
    with fcnkit.load(exported["scene"]) as segmenter:
        expected = segmenter(np.asarray(Image.open(io.BytesIO(picture))))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(body))), expected)


def test_under_load_every_request_gets_labels_or_is_refused_at_once(
    server: int, picture: bytes
) -> None:
    _, expected = post(server, picture)
    with ThreadPoolExecutor(24) as clients:
        answers = list(clients.map(lambda _: post(server, picture), range(96)))
    counts = Counter(status for status, _ in answers)
    assert set(counts) <= {200, 503}
    assert counts[200] >= MOST
    for status, body in answers:
        assert body == (expected if status == 200 else b"busy; try again")
    # Nothing is left waiting.
    assert post(server, picture) == (200, expected)


def test_with_the_queue_full_of_slow_clients_others_are_refused(
    server: int, picture: bytes
) -> None:
    slow = [http.client.HTTPConnection("127.0.0.1", server, timeout=120) for _ in range(MOST)]
    for connection in slow:
        connection.putrequest("POST", "/labels")
        connection.putheader("Content-Length", str(len(picture)))
        connection.endheaders(picture[:10])
    # Requests are taken up in their own time; while one place is free, the answer is 200.
    for _ in range(600):
        if post(server, picture) == (503, b"busy; try again"):
            break
        time.sleep(0.05)
    else:
        pytest.fail("the queue has no bound")
    for connection in slow:
        connection.send(picture[10:])
        assert connection.getresponse().status == 200
        connection.close()


def test_what_is_not_an_image_is_refused(server: int) -> None:
    status, body = post(server, b"not an image")
    assert status == 400
    assert body.startswith(b"not an image that can be labeled: cannot identify image file")
