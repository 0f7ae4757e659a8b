"""A scripted model behind a pool: whoever asks Sampan for it gets the next line of the script."""

import http.server
import json
import threading

import pytest


class Script:
    """What the model says, turn by turn: a list of (tool, arguments), or a text."""

    def __init__(self):
        self.turns = []
        self.requests = []

    def next(self, request):
        self.requests.append(request)
        done = sum(message["role"] == "tool" for message in request["messages"])
        return self.turns[min(done, len(self.turns) - 1)]


def chunks(turn):
    """A streamed answer in OpenAI's form, arguments in two pieces."""
    if isinstance(turn, str):
        yield {"role": "assistant", "content": turn}, None
        yield {}, "stop"
        return
    name, arguments = turn
    text = json.dumps(arguments)
    call = {"index": 0, "id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": text[:5]}}
    yield {"role": "assistant", "content": None, "tool_calls": [call]}, None
    yield {"tool_calls": [{"index": 0, "function": {"arguments": text[5:]}}]}, None
    yield {}, "tool_calls"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        events = [
            {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
            for delta, reason in chunks(self.server.script.next(request))
        ]
        events.append({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}})
        shared = {"id": "scripted", "object": "chat.completion.chunk", "created": 0, "model": "scripted"}
        body = "".join(f"data: {json.dumps(shared | event)}\n\n" for event in events) + "data: [DONE]\n\n"
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())


@pytest.fixture(scope="module")
def script():
    return Script()


@pytest.fixture(scope="module")
def coder(script, start_server, tmp_path_factory):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as upstream:
        upstream.script = script
        threading.Thread(target=upstream.serve_forever, daemon=True).start()
        pools = tmp_path_factory.mktemp("pools") / "pools.toml"
        pools.write_text(
            f"""
            [[pool]]
            name = "scripted"
            server = "openai"
            url = "http://127.0.0.1:{upstream.server_port}/v1"
            [[pool.model]]
            name = "qwen3-coder"
            context_tokens = 262144
            """
        )
        running = start_server("--pools", str(pools))
        yield running
        running.stop()
        upstream.shutdown()
