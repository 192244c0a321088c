"""What times say: for each contender median, fastest, slowest and rate, and the ratios of rates that were asked for.

    summary.py TIMES --bytes N [--files N] [--ratio 'A / B: goal X']... [--ratio 'A / max(B, C): goal X']...

TIMES holds lines of a contender's name, a tab and microseconds. Rates are in MB/s of 10^6 bytes. A ratio is taken of
the medians; its spread comes from the ratios of the single rounds.
"""

import argparse
import re
import statistics

arguments = argparse.ArgumentParser()
arguments.add_argument("times")
arguments.add_argument("--bytes", type=int, required=True)
arguments.add_argument("--files", type=int, default=0)
arguments.add_argument("--ratio", action="append", default=[])
arguments = arguments.parse_args()

seconds = {}
with open(arguments.times) as lines:
    for line in lines:
        name, us = line.split("\t")
        seconds.setdefault(name, []).append(int(us) / 1e6)

print(f"{'':18} {'median':>9} {'fastest':>9} {'slowest':>9} {'MB/s':>8}", f"{'files/s':>9}" if arguments.files else "")
for name in sorted(seconds, key=lambda name: statistics.median(seconds[name])):
    median = statistics.median(seconds[name])
    row = f"{name:18} {median:8.3f}s {min(seconds[name]):8.3f}s {max(seconds[name]):8.3f}s {arguments.bytes / median / 1e6:8.0f}"
    print(row, f"{arguments.files / median:9.0f}" if arguments.files else "")

for ratio in arguments.ratio:
    ours, rivals, goal = re.fullmatch(r"(\S+) / (?:max\()?(.+?)\)?: goal (\S+)", ratio).groups()
    # The faster rival is the one that took less time.
    rival = min(rivals.split(", "), key=lambda name: statistics.median(seconds[name]))
    of_rounds = [theirs / own for own, theirs in zip(seconds[ours], seconds[rival])]
    value = statistics.median(seconds[rival]) / statistics.median(seconds[ours])
    verdict = "reached" if value >= float(goal) else "MISSED"
    print(f"{ours} / {rival}: {value:.2f} ({min(of_rounds):.2f} to {max(of_rounds):.2f}), goal {goal}: {verdict}")
