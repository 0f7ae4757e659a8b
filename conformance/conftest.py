"""Starts and stops the server. A test gets `server`; `fresh_server` is one of its own, which it may stop."""

import http.client
import os
import signal
import socket
import subprocess
import tempfile
import time

import pytest

READY_WITHIN_S = 120
STOPS_WITHIN_S = 30


class Server:
    """One `sampan up` with a temporary data folder."""

    def __init__(self, *arguments):
        self.data = tempfile.TemporaryDirectory(prefix="sampan-conformance-")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [os.environ["SAMPAN_BIN"], "up", "--open", "--listen", f"127.0.0.1:{self.port}"]
        command += ["--data", self.data.name, *arguments]
        if os.environ.get("SAMPAN_MODEL"):
            command += ["--model", os.environ["SAMPAN_MODEL"]]
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self):
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"sampan ended with {self.process.returncode}:\n{self.output()}"
            try:
                if self.request("GET", "/readyz")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"sampan was not ready within {READY_WITHIN_S} s:\n{self.output()}")

    def request(self, method, path, body=None, headers=None):
        """Plain HTTP: the status and the body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def output(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-4000:]

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait_until_stopped(self):
        """The exit status, if the process goes by itself in time."""
        return self.process.wait(STOPS_WITHIN_S)

    def stop(self):
        """Ends the process; it must go by itself."""
        if self.process.poll() is None:
            self.terminate()
            try:
                self.wait_until_stopped()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        self.data.cleanup()


@pytest.fixture(scope="session")
def start_server():
    """Starts one with other arguments; whoever calls it stops it."""
    return Server


@pytest.fixture(scope="session")
def server():
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def fresh_server():
    running = Server()
    yield running
    running.stop()
