"""Starts the stub, Sampan and LiteLLM on free ports, measures each alone, prints a table. Ends them by their own ids.

Sampan checks a key, reserves, settles and records every request; LiteLLM checks its master key and keeps no books.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

SAMPAN, LOAD, LITELLM, SECONDS = sys.argv[1:5]
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


def measure(name, url, key, process):
    rows = []
    for connections, kind in CASES:
        command = [LOAD, "load", url, "m", key, str(connections), SECONDS] + ([kind] if kind else [])
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows.append(row | {"name": name, "memory_mib": round(memory_mib(process.pid))})
    return rows


def stop(process):
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main():
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        stub_port, sampan_port, litellm_port = free_port(), free_port(), free_port()
        stub_url = f"http://127.0.0.1:{stub_port}"
        pools, config = os.path.join(folder, "pools.toml"), os.path.join(folder, "config.yaml")
        with open(pools, "w") as file:
            file.write(
                f'[[pool]]\nname = "stub"\nserver = "vllm"\nurl = "{stub_url}/v1"\nhealth.path = "/health"\n'
                '[[pool.model]]\nname = "m"\n'
            )
        prices = os.path.join(folder, "prices.toml")
        with open(prices, "w") as file:
            file.write('[[price]]\nmodel = "m"\ninput = "0.05"\noutput = "0.40"\n')
        with open(config, "w") as file:
            file.write(
                "model_list:\n  - model_name: m\n    litellm_params:\n      model: openai/m\n"
                f"      api_base: {stub_url}/v1\n      api_key: sk-none\n"
                f"litellm_settings:\n  telemetry: false\ngeneral_settings:\n  master_key: {KEY}\n"
            )
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        stub = subprocess.Popen([LOAD, "stub", str(stub_port)], **quiet)
        try:
            ready(f"{stub_url}/health", stub)
            rows += measure("the stub itself", f"{stub_url}/v1", KEY, stub)
            up = [SAMPAN, "up", "--credit", "--prices", prices, "--listen", f"127.0.0.1:{sampan_port}"]
            data = ["--data", os.path.join(folder, "data")]
            sampan = subprocess.Popen([*up, *data, "--pools", pools, "--kv-mib", "64"], **quiet)
            try:
                ready(f"http://127.0.0.1:{sampan_port}/readyz", sampan)
                pay = [SAMPAN, "admin", *data, "ledger", "deposit", "default", "100000"]
                subprocess.run(pay, check=True, **quiet)
                with open(os.path.join(data[1], "admin.key")) as file:
                    key = file.read().strip()
                rows += measure("Sampan", f"http://127.0.0.1:{sampan_port}/v1", key, sampan)
            finally:
                stop(sampan)
            audit = subprocess.run([SAMPAN, "admin", *data, "audit"], check=True, capture_output=True, text=True)
            print(audit.stdout)
            serve = [LITELLM, "--config", config, "--host", "127.0.0.1", "--port", str(litellm_port)]
            environment = os.environ | {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
            litellm = subprocess.Popen([*serve, "--num_workers", str(os.cpu_count())], env=environment, **quiet)
            try:
                ready(f"http://127.0.0.1:{litellm_port}/health/liveliness", litellm)
                rows += measure("LiteLLM", f"http://127.0.0.1:{litellm_port}/v1", KEY, litellm)
            finally:
                stop(litellm)
        finally:
            stop(stub)
    direct = {(row["connections"], row["stream"]): row for row in rows if row["name"] == "the stub itself"}
    print("| | connections | streamed | requests/s | p50 ms | p99 ms | added p50 ms | memory MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        added = row["p50_ms"] - direct[row["connections"], row["stream"]]["p50_ms"]
        streamed = "yes" if row["stream"] else "no"
        print(
            f"| {row['name']} | {row['connections']} | {streamed} | {row['requests_per_second']:.0f} | {row['p50_ms']:.2f} "
            f"| {row['p99_ms']:.2f} | {added:.2f} | {row['memory_mib']} |"
        )
    for ours in (row for row in rows if row["name"] == "Sampan"):
        same = (ours["connections"], ours["stream"])
        peer = next(row for row in rows if row["name"] == "LiteLLM" and (row["connections"], row["stream"]) == same)
        times = ours["requests_per_second"] / peer["requests_per_second"]
        part = ours["memory_mib"] / peer["memory_mib"]
        streamed = "streamed" if ours["stream"] else "whole"
        print(f"{ours['connections']} connections, {streamed}: {times:.1f} times the requests, {part:.2f} of the memory")


main()
