"""Models of this machine through Hugging Face's own client; and a server that pulls from another one."""

import json
import os
import pathlib
import shutil
import subprocess
import time

import huggingface_hub
import pytest
from huggingface_hub.errors import RepositoryNotFoundError

TINY = pathlib.Path(__file__).parents[2] / "fixtures/tiny/qwen3_dense"
FILES = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


@pytest.fixture(scope="module")
def lender(start_server, tmp_path_factory):
    """A server that has pulled one model from a folder."""
    mirror = tmp_path_factory.mktemp("mirror") / "Qwen/Tiny"
    mirror.mkdir(parents=True)
    for name in FILES:
        shutil.copy(TINY / name, mirror / name)
    server = start_server()
    command = [os.environ["SAMPAN_BIN"], "pull", "Qwen/Tiny", "--from", str(mirror.parents[1]), "--data", server.data.name]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield server
    server.stop()


def test_a_model_is_fetched_whole(lender, tmp_path):
    folder = huggingface_hub.snapshot_download("Qwen/Tiny", endpoint=lender.url, cache_dir=tmp_path)
    for name in FILES:
        assert (pathlib.Path(folder) / name).read_bytes() == (TINY / name).read_bytes(), name


def test_one_file_is_fetched_and_a_second_time_not(lender, tmp_path):
    options = {"endpoint": lender.url, "cache_dir": tmp_path}
    path = huggingface_hub.hf_hub_download("Qwen/Tiny", "config.json", **options)
    assert json.loads(pathlib.Path(path).read_text())["model_type"] == "qwen3"
    info = huggingface_hub.HfApi(endpoint=lender.url).model_info("Qwen/Tiny", files_metadata=True)
    assert {sibling.rfilename: sibling.size for sibling in info.siblings}["config.json"] == (TINY / "config.json").stat().st_size
    assert huggingface_hub.hf_hub_download("Qwen/Tiny", "config.json", revision=info.sha, **options) == path


def test_what_is_not_there_is_said_to_be_missing(lender, tmp_path):
    with pytest.raises(RepositoryNotFoundError):
        huggingface_hub.HfApi(endpoint=lender.url).model_info("Qwen/Other")
    with pytest.raises(huggingface_hub.errors.EntryNotFoundError):
        huggingface_hub.hf_hub_download("Qwen/Tiny", "other.json", endpoint=lender.url, cache_dir=tmp_path)


def test_a_model_comes_by_the_mover_over_two_addresses(lender, tmp_path):
    command = [os.environ["SAMPAN_BIN"], "pull", "Qwen/Tiny", "--from", lender.url, "--data", str(tmp_path), "--json"]
    planes = ["--plane", "127.0.0.1", "--plane", "127.0.0.2"]
    done = subprocess.run(command + planes, check=True, stdout=subprocess.PIPE, text=True)
    assert json.loads(done.stdout.splitlines()[-1])["event"] == "done"
    for name in FILES:
        assert (tmp_path / "models/Tiny" / name).read_bytes() == (TINY / name).read_bytes(), name
    foreign = subprocess.run(command + ["--as", "Again", "--plane", "192.0.2.1"], stderr=subprocess.PIPE, text=True)
    assert foreign.returncode == 0, "what is here already needs no plane: " + foreign.stderr
    other = command[:-3] + ["--data", str(tmp_path / "other"), "--plane", "192.0.2.1"]
    foreign = subprocess.run(other, stderr=subprocess.PIPE, text=True)
    assert foreign.returncode != 0 and "192.0.2.1" in foreign.stderr, foreign.stderr


@pytest.fixture
def other(start_server):
    running = start_server()
    yield running
    running.stop()


def test_another_server_pulls_while_it_serves(lender, other):
    order = json.dumps({"model": "Qwen/Tiny", "from": lender.url, "planes": ["127.0.0.1"]})
    assert other.request("POST", "/admin/v1/pulls", order)[0] == 202
    deadline = time.monotonic() + 60
    while json.loads(other.request("GET", "/admin/v1/pulls")[1])["data"][0]["state"] in ("waiting", "fetching"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    ask = json.dumps({"model": "Tiny", "prompt": [1, 2, 3], "max_tokens": 2})
    assert other.request("POST", "/v1/completions", ask)[0] == 200
