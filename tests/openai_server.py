"""A server process that speaks OpenAI's chat completions, for the tests: the scripted engine's words, and troubles.

    python tests/openai_server.py SCRIPT.json [PORT]     prints the port, serves until killed

POST /trouble queues what the next chat requests get instead of an answer: a status such as 429, [429, HEADERS] or
[400, HEADERS, BODY], "hang", "slow", seconds to be as slow, "drop", or {"answer": BODY}. GET /seen returns the chat
requests and their headers. POST /models says which models GET /models lists. Prompts are counted in words; CONTEXT of
them are the window.
The messages are those of vLLM: 0.31's, or, of a model that is called older, those before it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from rrr_cli.engines.base import Prompt, Sampling
from rrr_cli.engines.scripted import ScriptedEngine
from rrr_cli.records import Message

CONTEXT = 256


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: ScriptedEngine
    troubles: list[Any] = []  # noqa: RUF012 - one server a process
    seen: list[dict[str, Any]] = []  # noqa: RUF012
    models: list[str] = []  # noqa: RUF012
    busy = most_busy = 0
    lock = threading.Lock()

    def do_GET(self) -> None:
        models = [{"id": name} for name in self.models]
        self.answer(200, {"seen": self.seen, "most_at_once": Handler.most_busy, "object": "list", "data": models})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path in ("/trouble", "/models"):
            (self.troubles if self.path == "/trouble" else self.models)[:] = request
            return self.answer(200, {})
        with self.lock:
            self.seen.append({"headers": dict(self.headers), "body": request})
            trouble = self.troubles.pop(0) if self.troubles else None
            Handler.busy += 1
            Handler.most_busy = max(self.most_busy, self.busy)
        try:
            self.respond(request, trouble)
        finally:
            with self.lock:
                Handler.busy -= 1

    def respond(self, request: dict[str, Any], trouble: Any) -> None:
        if trouble is None:
            time.sleep(0.005)  # so that requests meet
            self.chat(request)
        elif trouble == "hang":
            time.sleep(60)
        elif trouble == "slow" or isinstance(trouble, float):
            time.sleep(1 if trouble == "slow" else trouble)
            self.chat(request)
        elif trouble == "drop":
            self.close_connection = True
        elif isinstance(trouble, dict):
            self.answer(200, trouble["answer"])
        else:
            status, headers, *body = trouble if isinstance(trouble, list) else (trouble, {})
            said = f"\x1b[31mtrouble\x1b[0m with {self.headers.get('Authorization')}"
            self.answer(status, body[0] if body else {"error": {"message": said}}, headers)

    def chat(self, request: dict[str, Any]) -> None:
        messages = tuple(Message(m["role"], m["content"]) for m in request["messages"])
        words = sum(len(m.content.split()) + 1 for m in messages)
        most = request["max_tokens"]
        window = f"This model's maximum context length is {CONTEXT} tokens"
        if words + most > CONTEXT and request["model"] != "older":  # vLLM 0.31, which reads no further than it must
            seen = CONTEXT - most + 1
            return self.refuse(f"{window}. However, you requested {most} output tokens and your prompt contains at "
                               f"least {seen} input tokens, for a total of at least {seen + most} tokens.")
        if words >= CONTEXT:
            return self.refuse(f"{window}. However, your request has {words} input tokens. Please reduce the length of "
                               "the input messages.")
        if words + most > CONTEXT:
            return self.refuse(f"'max_tokens' or 'max_completion_tokens' is too large: {most}. {window} and your "
                               f"request has {words} input tokens ({most} > {CONTEXT} - {words}).")
        sampling = Sampling(request.get("temperature", 1.0), request.get("top_p", 1.0), most)
        ((c,),) = self.script.generate([Prompt(messages, (request.get("seed", 0),))], sampling)
        self.answer(200, {
            "object": "chat.completion", "model": request["model"],
            "choices": [{"message": {"role": "assistant", "content": c.text}, "finish_reason": c.finish_reason}],
            "usage": {"prompt_tokens": c.prompt_tokens, "completion_tokens": c.tokens},
        })

    def refuse(self, message: str) -> None:
        self.answer(400, {"error": {"message": message, "type": "BadRequestError", "code": 400}})

    def answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


class Server:
    """The process as a test sees it; `url` is what --base-url takes."""

    def __init__(self, port: str, process: subprocess.Popen[str]) -> None:
        self.port, self.process = port, process
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/v1"

    def trouble(self, *troubles: Any) -> None:
        urlopen(Request(f"{self.root}/trouble", json.dumps(troubles).encode()), timeout=10).read()

    def lists(self, *models: str) -> None:
        urlopen(Request(f"{self.root}/models", json.dumps(models).encode()), timeout=10).read()

    def look(self) -> dict[str, Any]:
        return json.loads(urlopen(f"{self.root}/seen", timeout=10).read())

    def seen(self) -> list[dict[str, Any]]:
        return self.look()["seen"]


@contextmanager
def scripted_server(script: Path, port: str = "0") -> Iterator[Server]:
    """A server process of its own, ended at the end."""
    command = [sys.executable, __file__, str(script), port]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Server(process.stdout.readline().strip(), process)
        finally:
            process.kill()


@contextmanager
def vllm_server(model: Path, log: Path, patience: float = 300) -> Iterator[str]:
    """vLLM's own OpenAI server with `model` under its path's name; yields its base URL."""
    import socket

    import torch

    from rrr_cli.engines.vllm import CPU_ENVIRONMENT

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    on_cpu = not torch.cuda.is_available()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--host", "127.0.0.1",
               "--port", str(port), "--max-num-seqs", "16", "--dtype", "float32", "--enforce-eager"]
    with log.open("w") as out, subprocess.Popen(
        command, stdout=out, stderr=out, env=(CPU_ENVIRONMENT if on_cpu else {}) | dict(os.environ)
    ) as process:
        try:
            until = time.monotonic() + patience
            while True:
                try:
                    urlopen(f"http://127.0.0.1:{port}/health", timeout=5).read()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > until:
                        raise RuntimeError(f"vLLM's server didn't start:\n{log.read_text()[-3000:]}") from None
                    time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()


if __name__ == "__main__":
    Handler.script = ScriptedEngine(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()
