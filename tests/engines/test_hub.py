"""A hub id: what the hub says is what the line says, and weights are fetched once. A hub of our own stands in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub")

COMMIT = "c" * 40
REFUSALS = {
    "a/gated": (403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "restricted"}, "accept its licence at"),
    "a/gated-anonymous": (401, {"X-Error-Code": "GatedRepo"}, "accept its licence at"),
    "a/token": (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "refuses your token"),
    "a/absent": (404, {"X-Error-Code": "RepoNotFound"}, "not found on the hub"),
    "a/private": (401, {"X-Error-Code": "RepoNotFound"}, "hf auth login if it is private"),
    "a/forbidden": (403, {"X-Error-Message": "no read scope"}, "refuses access (403: no read scope)"),
    "a/busy": (429, {}, "too many requests to the hub (429)"),
    "a/down": (503, {}, "doesn't answer as it should (503)"),
    "a/gateway": (504, {}, "doesn't answer as it should (504)"),
    "a/odd": (418, {}, "the hub can't give it"),
}
ASK = """
import sys
from rrr_cli.engines.models import resolve
from rrr_cli.errors import RrrError
for name in sys.argv[1:]:
    try:
        resolve(name)
        print("0 resolved")
    except RrrError as error:
        print(error.exit_code, error)
"""


@pytest.fixture
def hub(random_model: Path, tmp_path: Path) -> Iterator[tuple[dict[str, str], list[str]]]:
    """The environment in which a hub of our own is asked, and the names of the files that it was asked for."""
    asked: list[str] = []
    text = {path.name: path.read_bytes() for path in random_model.iterdir() if path.suffix == ".json"}
    weights = (random_model / "model.safetensors").read_bytes()
    index = json.dumps({"weight_map": {"x": "model-00001-of-00001.safetensors"}}).encode()
    extra = {name: b"never" for name in (
        "consolidated.safetensors", "model.fp16.safetensors", "original/model.safetensors", "onnx/config.json")}
    repos = {
        "b/one": {**text, **extra, "model.safetensors": weights},
        "b/parts": {**text, **extra, "model.safetensors": b"never", "model.safetensors.index.json": index,
                    "model-00001-of-00001.safetensors": weights},
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            repo = "/".join(self.path.removeprefix("/api/models").lstrip("/").split("/")[:2]).split("?")[0]
            status, body, headers = 200, b"", {}
            if repo in REFUSALS:
                status, headers, _ = REFUSALS[repo]
            elif "/resolve/" in self.path:
                name = self.path.split(f"/resolve/{COMMIT}/")[1]
                asked.append(name)
                body, headers = repos[repo][name], {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT}
            elif "/tree/" in self.path:
                body = json.dumps([{"type": "file", "path": name, "size": len(data), "oid": "a" * 40}
                                   for name, data in repos[repo].items()]).encode()
            else:
                body = json.dumps({"id": repo, "modelId": repo, "sha": COMMIT, "tags": [], "private": False,
                                   "siblings": [{"rfilename": name} for name in repos[repo]]}).encode()
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {
        **os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1", "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
    }, asked
    server.shutdown()


def ask(environment: dict[str, str], *names: str) -> list[str]:
    ran = subprocess.run([sys.executable, "-c", ASK, *names], env=environment, capture_output=True, text=True)
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran.stdout.splitlines()


def test_each_refusal_is_one_line_and_only_the_weights_of_the_model_are_fetched(hub):
    environment, asked = hub
    *lines, one, parts = ask(environment, *REFUSALS, "b/one", "b/parts")
    for (name, (status, _, says)), line in zip(REFUSALS.items(), lines, strict=True):
        assert line.startswith(f"{4 if status in (429, 503, 504) else 3} --model {name}: "), line
        assert says in line
    assert [one, parts] == ["0 resolved"] * 2
    assert {name for name in asked if not name.endswith(".json")} == {
        "model.safetensors", "model-00001-of-00001.safetensors"}
    assert not [name for name in asked if "/" in name]
    asked.clear()
    cached, absent = ask(environment | {"HF_HUB_OFFLINE": "1"}, "b/parts", "b/other")
    assert cached == "0 resolved"
    assert absent.startswith("3 --model b/other: no folder of that name, and not found whole in the hub's cache")
    cached, absent = ask(environment | {"HF_ENDPOINT": "http://127.0.0.1:9"}, "b/parts", "b/other")
    assert cached == "0 resolved"
    assert absent.startswith("4 --model b/other: ")
    assert "check the hub id and the network" in absent
    assert asked == []
