"""Writes a problem of the shape of the bench `permutation_of_1024_gpus` or `mixed_arrivals_2500`, for `run`.

    python problem.py permutation > problem.txt
"""
import random
import sys

RAILS, PLANES, AGGREGATIONS, PER_SEGMENT = 8, 2, 60, 64
hosts, rng = 2 * PER_SEGMENT, random.Random(1)
gpus = hosts * RAILS
capacities = [360e9, 360e9, 25e9, 25e9, 25e9, 25e9] * gpus + [50e9] * (2 * RAILS * PLANES * AGGREGATIONS * 2)


def port(gpu, plane, down):
    return 6 * gpu + 2 + 2 * plane + down


def uplink(segment, rail, plane, aggregation, down):
    return 6 * gpus + (((segment * RAILS + rail) * PLANES + plane) * AGGREGATIONS + aggregation) * 2 + down


to = list(range(hosts))
rng.shuffle(to)
flows = []
for host in range(hosts):
    for rail in range(RAILS):
        for plane in range(PLANES):
            path = [port(host * RAILS + rail, plane, 0)]
            ends = host // PER_SEGMENT, to[host] // PER_SEGMENT
            if ends[0] != ends[1]:
                up = rng.randrange(AGGREGATIONS)
                path += [uplink(ends[0], rail, plane, up, 0), uplink(ends[1], rail, plane, up, 1)]
            flows.append((32e6, 0.0, path + [port(to[host] * RAILS + rail, plane, 1)]))
if sys.argv[1:] == ["mixed"]:
    flows = [(1e6 * 4 ** rng.randrange(4), 0.008 * rng.random(), rng.choice(flows)[2]) for _ in range(2500)]
print(len(capacities), len(flows))
print("\n".join(f"{capacity:.0f}" for capacity in capacities))
for size, start, path in flows:
    print(f"{size:.0f} {start:.9f} {len(path)}", *path)
