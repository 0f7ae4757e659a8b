"""Runs ours and each peer in turns and prints medians and ratios; started by `run`."""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

# Peers leave files where they run, so they run in the work folder, and every path is absolute.
WORK, MAXMIN, SAMPAN = Path(sys.argv[1]).resolve(), os.path.abspath(sys.argv[2]), os.path.abspath(sys.argv[3])
FIXTURE = Path("fixtures/hpn/packet_htsim.json")
ROUNDS = 3


def printed_ms(*command):
    """Milliseconds and makespan that a solver printed: `NAME 1.5 ms, makespan 0.003 s`."""
    text = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True).stdout
    words = text.split()
    return float(words[1]), float(words[4])


def process_ms(*command):
    start = time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, cwd=WORK)
    return 1e3 * (time.monotonic() - start)


def row(name, ours, theirs=None):
    line = f"  {name:44} {statistics.median(ours):10.2f} ms"
    if theirs:
        ratio = statistics.median(their / our for our, their in zip(ours, theirs))
        line += f" {statistics.median(theirs):12.1f} ms   {ratio:.0f} times as fast"
    print(line, flush=True)


def in_turns(name, ours, theirs):
    """A row of two programs, one after the other in every round; of ours alone where there is no peer."""
    rounds = [(process_ms(*ours), process_ms(*theirs) if theirs else None) for _ in range(ROUNDS)]
    row(name, [our for our, _ in rounds], [their for _, their in rounds] if theirs else None)


def simgrid():
    print("the same file, solving alone: ours and SimGrid")
    for shape in ("permutation", "mixed"):
        path = str(WORK / f"{shape}.txt")
        pairs = [(printed_ms(MAXMIN, path), printed_ms(str(WORK / "simgrid"), path)) for _ in range(ROUNDS)]
        for (_, our_s), (_, their_s) in pairs:
            assert abs(our_s / their_s - 1) < 1e-6, f"{shape}: makespans {our_s} and {their_s}"
        row(shape, [ours[0] for ours, _ in pairs], [theirs[0] for _, theirs in pairs])


def connections(case):
    """The flows of a case, or None where a flow waits for another."""
    traffic, hosts = case["traffic"], case["topology"]["hosts"]
    if traffic["kind"] == "permutation":
        return list(enumerate(traffic["dst_of_host"]))
    if traffic["kind"] == "shift":
        return [(host, (host + traffic["shift"]) % hosts) for host in range(hosts)]
    if traffic["kind"] == "incast":
        return [(host, traffic["dst"]) for host in traffic["src"]]
    if traffic["kind"] == "all_to_all":
        members = traffic["members"]
        return [(one, other) for one in members for other in members if one != other]
    return None


def htsim_command(folder, case):
    fabric, flows = case["topology"], connections(case)
    if flows is None:
        return None
    tiers = [(0, fabric["tor_down"], fabric["tor_up"]), (1, fabric["tors"], None)]
    text = f"Nodes {fabric['hosts']}\nTiers 2\nPodsize {fabric['hosts']}\n"
    for tier, down, up in tiers:
        text += f"\nTier {tier}\nDownlink_speed_Gbps {fabric['link_gbps']}\nRadix_Down {down}\n"
        text += f"Radix_Up {up}\n" if up else ""
        text += f"Downlink_Latency_ns {fabric['link_latency_ns']}\nSwitch_Latency_ns 0\n"
        text += f"Oversubscribed {fabric['oversub']}\n" if tier == 0 and fabric["oversub"] > 1 else ""
    (WORK / "case.topo").write_text(text)
    size = case["traffic"]["bytes"]
    lines = [f"{one}->{other} start 0 size {size}" for one, other in flows]
    (WORK / "case.cm").write_text(f"Nodes {fabric['hosts']}\nConnections {len(lines)}\n" + "\n".join(lines) + "\n")
    strategy = {
        "eqds_spray128": ("htsim_eqds", "-paths", "128"),
        "roce_pfc_adaptive": ("htsim_roce", "-paths", "1", "-strat", "ecmp_ar"),
        "roce_pfc_ecmp_single_path": ("htsim_roce", "-paths", "1", "-strat", "ecmp_host"),
    }[case["transport"]]
    program, *options = strategy
    return [f"{folder}/sim/datacenter/{program}", "-topo", str(WORK / "case.topo"), "-tm", str(WORK / "case.cm"),
            "-nodes", str(fabric["hosts"]), "-linkspeed", str(1000 * fabric["link_gbps"]), "-mtu", "4150",
            "-end", "4000", "-o", str(WORK / "case.log"), *options]


def htsim(folder):
    print("a case of packet_htsim.json, whole processes: `net check` and htsim")
    reference = json.loads(FIXTURE.read_text())
    for case in reference["cases"]:
        path = WORK / "case.json"
        path.write_text(json.dumps({**reference, "cases": [case]}))
        command = htsim_command(folder, case) if folder else None
        in_turns(case["name"], (SAMPAN, "net", "check", str(path)), command)


def simai(workload, peer):
    print("SimAI's example of 9,216 GPUs, whole processes: `net simai` and SimAI_analytical")
    options = ["-w", workload, "-g", "9216", "-nv", "360", "-nic", "48.5", "-n_p_s", "8", "-g_p_s", "8", "-r", "bench-"]
    ours = (SAMPAN, "net", "simai", workload, "--gpus", "9216")
    in_turns("example/workload_analytical.txt", ours, [peer, *options] if peer else None)


def absolute(variable):
    path = os.environ.get(variable)
    return os.path.abspath(path) if path else None


def main():
    simgrid()
    htsim(absolute("HTSIM"))
    if "SIMAI_WORKLOAD" in os.environ:
        simai(absolute("SIMAI_WORKLOAD"), absolute("SIMAI"))


main()
