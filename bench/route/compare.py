"""Starts the stub, Sampan and LiteLLM on free ports, measures one after the other in rounds, prints tables. Ends them.

Sampan checks a key, reserves, settles and records every request, on SQLite and, where SAMPAN_TEST_POSTGRES names a
server, on PostgreSQL. LiteLLM checks its master key and keeps no books: its client of PostgreSQL fetches a program from
its makers' own server when it is installed, which not every machine reaches.
"""

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

SAMPAN, LOAD, LITELLM, SECONDS = sys.argv[1:5]
ROUNDS = int(sys.argv[5])
PEER = "LiteLLM"
# Whoever keeps no keys of its own takes this one.
KEY = "sk-bench"
CASES = [(1, ""), (1, "stream"), (32, ""), (32, "stream")]


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def ready(url, process, within_s=120):
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{process.args[0]} ended with {process.returncode}"
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} was not ready within {within_s} s")


def family(pid):
    """A process and its children."""
    found = [pid]
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as stat:
                    if int(stat.read().rsplit(")", 1)[1].split()[1]) == pid:
                        found += family(int(entry))
            except OSError:
                pass
    return found


def memory_mib(pid):
    total = 0
    for member in family(pid):
        with open(f"/proc/{member}/status") as status:
            total += sum(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
    return total / 1024


def measure(name, url, key, process, case):
    connections, kind = case
    command = [LOAD, "load", url, "m", key, str(connections), SECONDS] + ([kind] if kind else [])
    row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return row | {"name": name, "memory_mib": round(memory_mib(process.pid))}


def stop(process):
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def started(stack, command, url, environment=None):
    """A server that is ready, and ends with the stack."""
    process = subprocess.Popen(command, env=environment, **QUIET)
    stack.callback(stop, process)
    ready(url, process)
    return process


def sampan(stack, folder, name, stub_url, database):
    """Sampan before the stub, with a project that has paid, and the command that audits its books."""
    data = os.path.join(folder, name)
    os.makedirs(data)
    pools, prices = os.path.join(folder, "pools.toml"), os.path.join(folder, "prices.toml")
    with open(pools, "w") as file:
        file.write(
            f'[[pool]]\nname = "stub"\nserver = "vllm"\nurl = "{stub_url}/v1"\nhealth.path = "/health"\n'
            '[[pool.model]]\nname = "m"\n'
        )
    with open(prices, "w") as file:
        file.write('[[price]]\nmodel = "m"\ninput = "0.05"\noutput = "0.40"\n')
    url = f"http://127.0.0.1:{free_port()}"
    where = ["--data", data] + (["--database", database] if database else [])
    up = [SAMPAN, "up", "--credit", "--prices", prices, "--listen", url.removeprefix("http://"), *where]
    process = started(stack, [*up, "--pools", pools, "--kv-mib", "64"], f"{url}/readyz")
    admin = [SAMPAN, "admin", *where]
    subprocess.run([*admin, "ledger", "deposit", "default", "100000"], check=True, **QUIET)
    with open(os.path.join(data, "admin.key")) as file:
        key = file.read().strip()
    return (name, f"{url}/v1", key, process), [*admin, "audit"]


def litellm(stack, folder, stub_url):
    config = os.path.join(folder, "config.yaml")
    with open(config, "w") as file:
        file.write(
            "model_list:\n  - model_name: m\n    litellm_params:\n      model: openai/m\n"
            f"      api_base: {stub_url}/v1\n      api_key: sk-none\n"
            f"litellm_settings:\n  telemetry: false\ngeneral_settings:\n  master_key: {KEY}\n"
        )
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    serve = [LITELLM, "--config", config, "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    command = [*serve, "--num_workers", str(os.cpu_count())]
    return PEER, f"{url}/v1", KEY, started(stack, command, f"{url}/health/liveliness", environment)


def table(rows):
    """Medians over the rounds of each server and case."""
    print("| | connections | streamed | requests/s | p50 ms | p99 ms | memory MiB |")
    print("|---|---|---|---|---|---|---|")
    for name, (connections, kind) in dict.fromkeys((row["name"], row["case"]) for row in rows):
        mine = [row for row in rows if (row["name"], row["case"]) == (name, (connections, kind))]
        middle = {
            field: statistics.median(row[field] for row in mine)
            for field in ["requests_per_second", "p50_ms", "p99_ms", "memory_mib"]
        }
        print(
            f"| {name} | {connections} | {'yes' if kind else 'no'} | {middle['requests_per_second']:.0f} "
            f"| {middle['p50_ms']:.2f} | {middle['p99_ms']:.2f} | {middle['memory_mib']:.0f} |"
        )


def ratios(rows, names):
    """The median of the rounds' ratios, each of one server and LiteLLM one after the other."""
    of = {(row["name"], row["case"], row["round"]): row for row in rows}
    for name in names:
        for case in CASES:
            pairs = [(of[name, case, turn], of[PEER, case, turn]) for turn in range(ROUNDS)]
            times = [ours["requests_per_second"] / peer["requests_per_second"] for ours, peer in pairs]
            part = statistics.median(ours["memory_mib"] / peer["memory_mib"] for ours, peer in pairs)
            how = "streamed" if case[1] else "whole"
            print(
                f"{name}, {case[0]} connections, {how}: {statistics.median(times):.1f} times the requests "
                f"({min(times):.1f} to {max(times):.1f}), {part:.3f} of the memory"
            )


def main():
    rows = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        stub_port = free_port()
        stub_url = f"http://127.0.0.1:{stub_port}"
        stub = started(stack, [LOAD, "stub", str(stub_port)], f"{stub_url}/health")
        databases = {"Sampan, SQLite": None}
        if "SAMPAN_TEST_POSTGRES" in os.environ:
            databases["Sampan, PostgreSQL"] = os.environ["SAMPAN_TEST_POSTGRES"]
        ours, audits = zip(*(sampan(stack, folder, name, stub_url, at) for name, at in databases.items()), strict=True)
        servers = [("the stub itself", f"{stub_url}/v1", KEY, stub), *ours, litellm(stack, folder, stub_url)]
        for turn in range(ROUNDS):
            for case in CASES:
                rows += [measure(*server, case) | {"case": case, "round": turn} for server in servers]
        for audit in audits:
            print(subprocess.run(audit, check=True, capture_output=True, text=True).stdout)
    table(rows)
    ratios(rows, databases)


main()
