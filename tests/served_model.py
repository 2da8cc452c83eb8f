"""A server that speaks as vLLM does, over a tiny model, in a thread of the test."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch

from gemmule.model.transformer import Gemma2


class FakeServer:
    """vLLM's answers over a tiny model: the top k of each prompt token's place, and the token itself."""

    def __init__(self, model: Gemma2, port: int = 0, largest_k: int = 20) -> None:
        self.model, self.largest_k, self.asked = model, largest_k, []
        self.hindrances: list[int] = []  # statuses to answer with first; 0 cuts the connection
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.answer(200, {"data": [{"id": "tiny"}]})

            def do_POST(self):
                wish = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.asked.append((wish, self.headers.get("Authorization")))
                if fake.hindrances:
                    status = fake.hindrances.pop(0)
                    if status:
                        self.answer(status, {"message": "not now"})
                    else:
                        self.close_connection = True
                elif wish["prompt_logprobs"] > fake.largest_k:
                    said = f"Requested prompt logprobs of 9, which is greater than max allowed: {fake.largest_k}"
                    self.answer(400, {"error": {"message": said}})
                else:
                    choices = [fake.choice(i, ids, wish["prompt_logprobs"]) for i, ids in enumerate(wish["prompt"])]
                    self.answer(200, {"choices": choices[::-1]})

            def answer(self, status, content):
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.http.server_port
        self.url = f"http://127.0.0.1:{self.port}/v1"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def choice(self, index, ids, k):
        with torch.no_grad():
            log_p = self.model(torch.tensor([ids]))[0].log_softmax(-1)
        places = [None]
        for row, token in zip(log_p[:-1], ids[1:], strict=True):
            order = row.argsort(descending=True).tolist()
            named = dict.fromkeys([token, *order[:k]])  # vLLM puts the prompt's own token first
            places.append({str(n): {"logprob": row[n].item(), "rank": order.index(n) + 1} for n in named})
        return {"index": index, "text": "x", "prompt_logprobs": places}

    def stop(self):
        self.http.shutdown()
        self.http.server_close()


class ScriptedServer:
    """Answers each connection with the next of the scripts, whatever is asked; the last one again and again.

    A script is bytes, or several of which the last but one is sent until the other side has gone (None at the end).
    """

    def __init__(self, *scripts: bytes | tuple[bytes | None, ...]) -> None:
        self.scripts, self.answered = scripts, 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            script = self.scripts[min(self.answered, len(self.scripts) - 1)]
            self.answered += 1
            with connection:
                try:
                    self._answer(connection, script if isinstance(script, tuple) else (script,))
                except OSError:
                    continue

    def _answer(self, connection: socket.socket, parts: tuple[bytes | None, ...]) -> None:
        request = b""
        while b"\r\n\r\n" not in request and not request.startswith(b"\x16"):  # which begins a TLS handshake
            if not (some := connection.recv(2**16)):
                return
            request += some
        head, _, body = request.partition(b"\r\n\r\n")
        length = [int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length")]
        while length and len(body) < length[0]:
            body += connection.recv(2**16)
        for part, following in zip(parts, (*parts[1:], b""), strict=True):
            while part is not None:
                connection.sendall(part)
                if following is not None:
                    break

    def stop(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
