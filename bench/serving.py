"""`sampan up` for a measurement, and plain questions to it. SAMPAN_BIN is the binary; default: what cargo built."""
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

RELEASE = pathlib.Path(__file__).resolve().parent.parent / "target" / "release"
PATIENCE_S = 120


@contextlib.contextmanager
def sampan(model):
    """The address of a server of its own, and the model's name there."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as data:
        binary = os.environ.get("SAMPAN_BIN", RELEASE / "sampan")
        command = [binary, "up", "--open", "--listen", f"127.0.0.1:{port}", "--data", data]
        if model != "sampan-nano":
            command += ["--model", f"measured={model}"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz")
                    break
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}", "sampan-nano" if model == "sampan-nano" else "measured"
        finally:
            process.terminate()
            process.wait()


def ask(url, body):
    """Asks for a chat completion: the status and the answer."""
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
