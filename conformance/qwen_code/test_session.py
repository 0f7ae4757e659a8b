"""Qwen Code, the real client, works through a session: it reads a file, edits it, writes another and runs it.

The model is a script, since nothing here can hold the weights of a coder; everything between the client and the script is real.
"""

import os
import pathlib
import shutil
import subprocess

import pytest

FOLDER = pathlib.Path(__file__).parent
# The client waits for nobody but us; a session takes a few seconds.
ENDS_WITHIN_S = 120
NODE_MIN = 20


@pytest.fixture(scope="module")
def qwen():
    """The client's program, installed once."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").split(".")[0]) < NODE_MIN:
        pytest.skip(f"node is {version.strip()}, the client needs {NODE_MIN} or newer")
    home = FOLDER / ".client"
    wanted = (FOLDER / "package.json").read_text()
    installed = home / "package.json"
    if not installed.is_file() or installed.read_text() != wanted or not (home / "node_modules").is_dir():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        installed.write_text(wanted)
        install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
        subprocess.run(install, cwd=home, check=True, timeout=300)
    return home / "node_modules/.bin/qwen"


def ask(qwen, coder, project, home, words):
    """One run of the client in a project, without a person to ask."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "NO_COLOR": "1", "CI": "1"}
    environment |= {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": coder.url + "/v1", "OPENAI_MODEL": "qwen3-coder"}
    command = [str(qwen), "--auth-type", "openai", "--approval-mode", "yolo", "--chat-recording=false", words]
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=ENDS_WITHIN_S, stdin=subprocess.DEVNULL
    )


def test_a_session_reads_edits_writes_and_runs(qwen, coder, script, tmp_path):
    project, home = tmp_path / "project", tmp_path / "home"
    project.mkdir()
    home.mkdir()
    greet, check = project / "greet.py", project / "check.py"
    greet.write_text('def greet(name):\n    return "Hallo " + name\n')
    script.turns = [
        ("read_file", {"absolute_path": str(greet), "file_path": str(greet)}),
        ("edit", {"file_path": str(greet), "old_string": '"Hallo "', "new_string": '"Hello, "'}),
        ("write_file", {"file_path": str(check), "content": 'from greet import greet\nprint(greet("Ada"))\n'}),
        ("run_shell_command", {"command": "python3 check.py", "is_background": False, "description": "run it"}),
        "It greets in English now.",
    ]
    ended = ask(qwen, coder, project, home, "Make it greet in English.")
    told = ended.stdout + ended.stderr
    assert ended.returncode == 0, told
    assert "It greets in English now." in ended.stdout, told
    assert greet.read_text() == 'def greet(name):\n    return "Hello, " + name\n', told
    assert check.is_file(), told
    results = [message["content"] for message in script.requests[-1]["messages"] if message["role"] == "tool"]
    assert len(results) == 4, results
    assert "Hallo" in str(results[0]) and "Hello, Ada" in str(results[3]), results
    # What the client offers reached the model through us.
    offered = {tool["function"]["name"] for tool in script.requests[0]["tools"]}
    assert {"read_file", "edit", "write_file", "run_shell_command"} <= offered, offered
    assert script.requests[0]["messages"][0]["role"] == "system"
