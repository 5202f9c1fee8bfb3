"""A server on a socket that answers as vLLM's does, or as it should not."""

import json

import pytest
from aiohttp import web


class FakeServer:
    """A server that answers as `vllm serve` does. `routes` replaces single answers.

    Attributes:
        bodies: of the branches that were asked for.
        aborted: ids that were aborted.

    """

    def __init__(self) -> None:
        self.routes: dict[str, object] = {
            "/health": web.json_response,
            "/version": {"version": "0.32.0"},
            "/v1/models": {"data": [{"id": "m", "root": "/m", "parent": None, "max_model_len": 2048}]},
            "/metrics": METRICS,
            "/tokenize": {"tokens": [1, 2, 3]},
            "/inference/v1/generate": self._generate,
            "/inference/v1/abort_requests": self._abort,
            "/v1/load_lora_adapter": self._load_adapter,
        }
        self.bodies: list[dict] = []
        self.headers: list = []
        self.peers: set = set()
        self.aborted: list[str] = []
        self.adapters: dict[str, str] = {}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        found = self.routes.get(request.path)
        self.headers.append(request.headers.copy())
        self.peers.add(request.transport.get_extra_info("peername"))
        if found is None:
            return web.json_response({"detail": "Not Found"}, status=404)
        if isinstance(found, int):
            return web.json_response({"error": {"message": "no"}}, status=found)
        if isinstance(found, bytes):
            return web.Response(body=found)
        if isinstance(found, str):
            return web.Response(text=found)
        if isinstance(found, dict | list):
            return web.json_response(found)
        return web.json_response({}) if found is web.json_response else await found(request)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 2}}
        choice = {"index": 0, "token_ids": [7, 8], "finish_reason": "length"}
        if not body["stream"]:
            return web.json_response({"choices": [choice], "usage": usage, "prompt_logprobs": [None]})
        response = web.StreamResponse()
        await response.prepare(request)
        for event in (
            {"choices": [{"index": 0, "token_ids": [7]}]},
            {"choices": [{"index": 0, "token_ids": [8], "finish_reason": "length"}]},
            {"choices": [], "usage": usage},
        ):
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _abort(self, request: web.Request) -> web.StreamResponse:
        self.aborted += (await request.json())["request_ids"]
        return web.Response()

    async def _load_adapter(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        name = body.get("lora_name")
        if not name or name in self.adapters:
            return web.json_response({"error": {"message": f"The lora adapter '{name}' has already been loaded."}}, status=400)
        if body["lora_path"] == "/gone":
            return web.json_response({"error": {"message": "No adapter found for /gone"}}, status=404)
        self.adapters[name] = body["lora_path"]
        return web.Response(text="Success")


METRICS = """\
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:generation_tokens_total{engine="0",model_name="m"} 1234.0
vllm:lora_requests_info{max_lora="8",running_lora_adapters="",waiting_lora_adapters=""} 1.0
"""


@pytest.fixture
async def fake():
    """A fake server with its URL, as `fake.url`."""
    server = FakeServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    yield server
    await runner.cleanup()
