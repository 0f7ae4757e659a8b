"""LiteLLM's proxy as a foreign pool: Sampan (front) -> LiteLLM -> Sampan (back). All on free loopback ports."""

import os
import socket
import subprocess
import time
import urllib.request

import pytest

READY_WITHIN_S = 90


class Proxy:
    """LiteLLM's proxy in front of an OpenAI-compatible server."""

    def __init__(self, folder, upstream):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        config = folder / "litellm.yaml"
        config.write_text(
            "model_list:\n  - model_name: through-litellm\n    litellm_params:\n      model: openai/sampan-nano\n"
            f"      api_base: {upstream}/v1\n      api_key: none\nlitellm_settings:\n  telemetry: false\n"
        )
        command = [os.environ["LITELLM"], "--config", str(config), "--host", "127.0.0.1", "--port", str(self.port)]
        environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
        self.log = open(folder / "litellm.log", "w+")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, env=environment)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self):
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.output()
            try:
                with urllib.request.urlopen(f"{self.url}/health/liveliness", timeout=2):
                    return
            except OSError:
                time.sleep(0.2)
        raise AssertionError(f"LiteLLM was not ready within {READY_WITHIN_S} s:\n{self.output()}")

    def output(self):
        self.log.seek(0)
        return self.log.read()[-4000:]

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


@pytest.fixture(scope="session")
def back(start_server):
    running = start_server()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def proxy(back, tmp_path_factory):
    running = Proxy(tmp_path_factory.mktemp("litellm"), back.url)
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def front(back, proxy, start_server, tmp_path_factory):
    pools = tmp_path_factory.mktemp("pools") / "pools.toml"
    pools.write_text(
        f'''
        [[pool]]
        name = "litellm"
        server = "litellm"
        url = "{proxy.url}/v1"
        health.path = "/health/liveliness"
        [[pool.model]]
        name = "foreign"
        upstream = "through-litellm"
        [[pool]]
        name = "anthropic-form"
        form = "anthropic"
        url = "{back.url}"
        [[pool.model]]
        name = "by-anthropic"
        upstream = "sampan-nano"
        [[pool]]
        name = "closed"
        url = "http://127.0.0.1:9/v1"
        health.every_ms = 0
        [[pool.model]]
        name = "gone"
        [[route]]
        model = "gone"
        fallback = ["foreign"]
        [[route.group]]
        name = "all"
        targets = [{{ pool = "closed" }}]
        '''
    )
    running = start_server("--pools", str(pools))
    yield running
    running.stop()
