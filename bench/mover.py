#!/usr/bin/env python3
"""The mover beside iperf3 and rsync on loopback, in turns and in one run; what dying planes and receivers cost.

    cargo build --release -p sampan && apt-get install iperf3 rsync openssh-server
    bench/mover.py [--megabytes 1024] [--rounds 5] [--folder /dev/shm]

SAMPAN_BIN names another binary. Every server listens on loopback and is ended by its own id.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAMPAN = os.environ.get("SAMPAN_BIN", str(ROOT / "target/release/sampan"))
TOKEN = {**os.environ, "SAMPAN_NET_TOKEN": "the token of this bench"}
STREAMS, CHUNK_BYTES = 2, 4 << 20


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Receiving:
    """`sampan net recv --once`, on as many ports as there are planes."""

    def __init__(self, folder, listen=("127.0.0.1:0",), options=()):
        command = [SAMPAN, "net", "recv", "--once", "--json", *options, str(folder)]
        command += [f"--listen={address}" for address in listen]
        self.process = subprocess.Popen(command, env=TOKEN, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.addresses = json.loads(self.process.stdout.readline())["addresses"]

    def wait(self):
        events = [json.loads(line) for line in self.process.stdout]
        assert self.process.wait(30) == 0, events
        return events

    def kill(self):
        self.process.kill()
        self.process.wait()


def send(path, addresses, *options):
    """Sends, and says what the sender said, with the time that its whole process took."""
    start = time.monotonic()
    output = subprocess.run([SAMPAN, "net", "send", "--json", str(path), *addresses, *options],
                            env=TOKEN, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert output.returncode == 0, output.stderr
    return {**json.loads(output.stdout), "wall_s": time.monotonic() - start}


def mover(path, target, *options):
    shutil.rmtree(target, ignore_errors=True)
    receiving = Receiving(target, options=options)
    sent = send(path, receiving.addresses)
    receiving.wait()
    return sent


def iperf3(streams):
    port = free_port()
    server = subprocess.Popen(["iperf3", "-s", "-1", "-p", str(port), "-B", "127.0.0.1"], stdout=subprocess.DEVNULL)
    time.sleep(0.2)
    client = ["iperf3", "-J", "-c", "127.0.0.1", "-p", str(port), "-t", "1", "-P", str(streams)]
    found = json.loads(subprocess.run(client, stdout=subprocess.PIPE, check=True).stdout)
    server.wait(10)
    return found["end"]["sum_received"]["bits_per_second"] / 8e9


class Rsync:
    """rsync's own daemon: no encryption and no second shell, as with the mover."""

    def __init__(self, folder):
        self.target, self.port = folder / "rsync", free_port()
        config = folder / "rsyncd.conf"
        owner = "uid = root\ngid = root\n" if os.getuid() == 0 else ""
        config.write_text(f"use chroot = no\nport = {self.port}\naddress = 127.0.0.1\n"
                          f"[target]\npath = {self.target}\nread only = no\n{owner}")
        command = ["rsync", "--daemon", "--no-detach", f"--config={config}"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.3)

    def send(self, path, *options):
        shutil.rmtree(self.target, ignore_errors=True)
        self.target.mkdir()
        start = time.monotonic()
        command = ["rsync", "--whole-file", *options, str(path), f"rsync://127.0.0.1:{self.port}/target/"]
        subprocess.run(command, check=True)
        return time.monotonic() - start

    def stop(self):
        self.process.terminate()
        self.process.wait()


class RsyncOverSsh:
    """rsync as it is used between machines that run no daemon of it: over an SSH server of its own, which encrypts."""

    def __init__(self, folder):
        self.target, self.port, self.folder = folder / "rsync-ssh", free_port(), folder / "ssh"
        self.folder.mkdir(mode=0o700)
        for name in ("host", "key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)], check=True)
        (self.folder / "authorized").write_text((self.folder / "key.pub").read_text())
        Path("/run/sshd").mkdir(exist_ok=True)
        settings = [f"Port={self.port}", "ListenAddress=127.0.0.1", f"HostKey={self.folder}/host", "UsePAM=no",
                    f"AuthorizedKeysFile={self.folder}/authorized", "StrictModes=no", "PermitRootLogin=yes",
                    f"PidFile={self.folder}/pid"]
        command = ["/usr/sbin/sshd", "-D", "-f", "/dev/null", *(f"-o{setting}" for setting in settings)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.3)

    def send(self, path, *options):
        shutil.rmtree(self.target, ignore_errors=True)
        self.target.mkdir()
        shell = (f"ssh -p {self.port} -i {self.folder}/key -oStrictHostKeyChecking=no -oBatchMode=yes "
                 f"-oUserKnownHostsFile={self.folder}/known -oLogLevel=ERROR")
        start = time.monotonic()
        subprocess.run(["rsync", "--whole-file", *options, "-e", shell, str(path), f"127.0.0.1:{self.target}/"], check=True)
        return time.monotonic() - start

    def stop(self):
        self.process.terminate()
        self.process.wait()


def speeds(folder, path, rounds):
    bytes_of = path.stat().st_size
    rows = {name: [] for name in ("iperf3, 1 stream", "iperf3, 2 streams", "mover, nothing kept", "mover, kept",
                                  "rsync", "rsync --fsync", "rsync over ssh", "rsync over ssh --fsync")}
    rsync, over_ssh = Rsync(folder), RsyncOverSsh(folder)
    try:
        for _ in range(rounds):
            rows["iperf3, 1 stream"].append(iperf3(1))
            sent = mover(path, folder / "discarded", "--discard")
            rows["mover, nothing kept"].append(bytes_of / sent["elapsed_us"] / 1e3)
            rows["iperf3, 2 streams"].append(iperf3(2))
            rows["rsync"].append(bytes_of / rsync.send(path) / 1e9)
            rows["mover, kept"].append(bytes_of / mover(path, folder / "kept")["wall_s"] / 1e9)
            rows["rsync --fsync"].append(bytes_of / rsync.send(path, "--fsync") / 1e9)
            rows["rsync over ssh"].append(bytes_of / over_ssh.send(path) / 1e9)
            rows["rsync over ssh --fsync"].append(bytes_of / over_ssh.send(path, "--fsync") / 1e9)
    finally:
        over_ssh.stop()
        rsync.stop()
    print(f"{bytes_of / 1e6:.0f} MB, {rounds} rounds in turns, GB/s: median (least to most)")
    for name, found in rows.items():
        print(f"  {name:23} {statistics.median(found):6.2f}  ({min(found):.2f} to {max(found):.2f})")
    for ours, theirs in [("mover, nothing kept", "iperf3, 1 stream"), ("mover, nothing kept", "iperf3, 2 streams"),
                         ("mover, kept", "rsync"), ("mover, kept", "rsync --fsync"),
                         ("mover, kept", "rsync over ssh"), ("mover, kept", "rsync over ssh --fsync")]:
        ratio = statistics.median(own / other for own, other in zip(rows[ours], rows[theirs]))
        print(f"  {ours} / {theirs}: {ratio:.2f}")


class Plane:
    """A relay that can die (its sockets close) or fall silent (nothing passes and nobody is told)."""

    def __init__(self, target):
        host, port = target.rsplit(":", 1)
        self.target, self.silent, self.dead, self.carried = (host, int(port)), False, False, 0
        self.sockets, self.listener = [], socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            if self.dead:
                near.close()
                continue
            far = socket.create_connection(self.target)
            self.sockets += [near, far]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self.pump, args=pair, daemon=True).start()

    def pump(self, source, sink):
        buffer = memoryview(bytearray(1 << 20))
        try:
            while count := source.recv_into(buffer):
                while self.silent:
                    time.sleep(0.01)
                sink.sendall(buffer[:count])
                self.carried += count
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def die(self):
        self.dead = True
        for end in self.sockets:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def fall_silent(self):
        self.silent = True


def same(path, copy):
    return subprocess.run(["cmp", "--silent", str(path), str(copy)]).returncode == 0


def plane_lost(folder, path, how):
    """A transfer at a rate over two planes, one of which is lost when a third of its bytes have passed."""
    target = folder / "kept"
    shutil.rmtree(target, ignore_errors=True)
    receiving = Receiving(target, listen=("127.0.0.1:0", "127.0.0.1:0"))
    planes = [Plane(address) for address in receiving.addresses]

    def lose():
        while planes[0].carried < path.stat().st_size / 6:
            time.sleep(0.001)
        how(planes[0])

    threading.Thread(target=lose, daemon=True).start()
    sent = send(path, [plane.address for plane in planes], "--rate", "300MB")
    receiving.wait()
    return sent["stall_us_max"] / 1e3, sent["resent_bytes"], same(path, target / path.name)


def receiver_killed(folder, path):
    """A receiver that is killed by SIGKILL in mid-transfer and started again on its port."""
    target = folder / "kept"
    shutil.rmtree(target, ignore_errors=True)
    receiving = Receiving(target)
    address = receiving.addresses[0]
    found = []
    sending = threading.Thread(target=lambda: found.append(send(path, [address], "--rate", "300MB")))
    sending.start()
    time.sleep(path.stat().st_size / 300e6 / 2)
    receiving.kill()
    receiving = Receiving(target, listen=(address,))
    sending.join()
    receiving.wait()
    return found[0]["resent_bytes"], same(path, target / path.name)


def losses(folder, path, rounds):
    for name, how in [("killed", Plane.die), ("silent", Plane.fall_silent)]:
        found = [plane_lost(folder, path, how) for _ in range(rounds)]
        stalls = ", ".join(f"{stall_ms:.0f}" for stall_ms, _, _ in found)
        intact = all(identical for _, _, identical in found)
        print(f"one plane of two {name} in mid-transfer: longest stall {stalls} ms; "
              f"{'identical' if intact else 'THE BYTES DIFFER'}")
    found = [receiver_killed(folder, path) for _ in range(rounds)]
    resent = ", ".join(f"{resent / CHUNK_BYTES:.2f}" for resent, _ in found)
    intact = all(identical for _, identical in found)
    print(f"receiver killed in mid-transfer: {resent} chunks sent again over {STREAMS} streams; "
          f"{'identical' if intact else 'THE BYTES DIFFER'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", default=None, help="where source and target lie; default: the temporary folder")
    parser.add_argument("--only", choices=["speeds", "losses"])
    arguments = parser.parse_args()
    for program in ("iperf3", "rsync", "/usr/sbin/sshd"):
        if not shutil.which(program):
            sys.exit(f"{program} is not installed: apt-get install iperf3 rsync openssh-server")
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="mover-") as name:
        folder = Path(name)
        path = folder / "weights"
        with open(path, "wb") as file:
            for _ in range(arguments.megabytes):
                file.write(os.urandom(1 << 20))
        if arguments.only != "losses":
            speeds(folder, path, arguments.rounds)
        if arguments.only != "speeds":
            losses(folder, path, min(arguments.rounds, 3))


if __name__ == "__main__":
    main()
