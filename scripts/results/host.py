# SPDX-License-Identifier: GPL-2.0
"""What "make host" left: claims, I/O and the tests of what a working host needs."""

import json
import os

from . import records
from .tests import records_in, results_of

OBSTACLES = ("none", "owned", "pinned", "partition", "task", "irq", "vectors", "sched_ext",
             "deadline", "entry", "notified", "timer")


def host_claims(path):
    """What churn_test recorded: the claims, and those that were refused."""
    claims = records.read(path)
    refused = [{"why": OBSTACLES[c["obstacle"]] if c["obstacle"] else "errno %d" % c["errno"],
                "culprit": ("%s %s" % (c["name"], c["id"] or "")).strip()}
               for c in claims if c["errno"]]
    return claims, refused


def host_ios(paths):
    """Of fio's reports: requests, errors, the longest in ms."""
    ios = errors = longest = 0
    for path in paths:
        # It says first that it was interrupted, which is no JSON.
        text = records.text_of(path)
        for job in json.loads(text[text.index("{"):])["jobs"]:
            errors += job["error"] + job.get("total_err", 0)
            for side in ("read", "write"):
                ios += job[side]["total_ios"]
                longest = max(longest, job[side]["clat_ns"]["max"] / 1e6)
    return ios, errors, longest


def do_host(report, output):
    disks = os.path.join(report, "disks")
    tap = os.path.join(disks, "tap")
    claims, refused = host_claims(os.path.join(tap, "churn.jsonl"))
    reports = sorted(os.path.join(tap, name) for name in os.listdir(tap)
                     if name.startswith("fio-"))
    ios, errors, longest = host_ios(reports)
    sent = records.read(os.path.join(tap, "iperf.jsonl"))
    on_owned = sum("came to owned CPU" in line
                   for line in records.lines_of(os.path.join(disks, "console.log")))
    results = {result.name.split()[0]: result
               for result in results_of(records_in(os.path.join(report, "results.jsonl")))}
    faults = []
    for planned in records.read(os.path.join(disks, "plan.jsonl")):
        name = planned["test"].split()[0]
        for row in planned["what"].partition(":")[0].split(","):
            faults.append({"row": row.strip(), "test": name,
                           "pass": name in results and results[name].result == "pass"})
    host = {"claims": len(claims), "refused": refused, "ios": ios, "io_errors": errors,
            "longest_io_ms": round(longest, 1), "host_interrupts_on_owned": on_owned,
            "bytes_sent": sum(run.get("end", {}).get("sum_sent", {}).get("bytes", 0)
                              for run in sent),
            "longest_claim_ms": round(max((c["claim_us"] for c in claims), default=0) / 1000, 1),
            "faults": faults}
    records.save(output, host)
    print("%d claims, %d refused, the longest took %.1f ms" %
          (host["claims"], len(refused), host["longest_claim_ms"]))
    print("%d requests, %d errors, the longest took %.1f ms; %d MB sent" %
          (ios, errors, host["longest_io_ms"], host["bytes_sent"] // 1000000))
    print("%d interrupts of the host came to an owned CPU" % on_owned)
    for fault in faults:
        print("%-8s %-18s %s" % (fault["row"], fault["test"],
                                 "passed" if fault["pass"] else "FAILED"))
    bad = (not claims or refused or errors or not ios or on_owned or
           any(c["irqs_on_owned"] for c in claims) or not all(f["pass"] for f in faults))
    return bool(bad)
