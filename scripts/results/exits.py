# SPDX-License-Identifier: GPL-2.0
"""VM exits by reason, in stock and in exclusive mode, from what a demo's host left.

In its directory are

  loads.jsonl       {"mode", "load", "requests", "assigned"}, in the order that they ran;
                    assigned is 1 with devices of the host's, else 0
  MODE-LOAD/        of each
    result.jsonl    {"load", "requests", "failed", "ms", "timers", "ipis", "devices"}: what
                    the guest says; {"kind": "host_irqs", "count"}
    exits.jsonl     what measure/exits.py counted
  beats-MODE.jsonl  {"beat", "uptime", "timers"}, one a second from the ordinary VM
"""

import collections
import os

from . import records

MODES = ("stock", "exclusive")

# Why an exit is still there in exclusive mode, by what perf calls it on AMD.
WHY = {
    "npf": "nested page fault: first touch of memory, or MMIO of an emulated device",
    "io": "port I/O to a device that the VMM emulates",
    "msr": "MSR that KVM must check or emulate: an IPI (ICR), LVT or clock set-up",
    "cpuid": "CPUID always exits; programs ask it when they start",
    "hypercall": "the guest asked KVM for something (paravirtual IPI, yield)",
    "hlt": "the guest halts",
    "pause": "spinning in the guest for longer than KVM's window",
    "nmi": "a kick: host work for the owned CPU",
    "interrupt": "a host interrupt on the guest's CPU",
    "vintr": "interrupt window: KVM waits until the guest takes interrupts",
    "write_cr0": "lazy FPU or a mode switch in the guest",
    "read_cr0": "control register that KVM shadows",
    "write_cr8": "task priority kept in software",
    "read_dr0": "debug registers are switched lazily",
    "wbinvd": "cache write-back is the host's to decide",
    "shutdown": "the guest resets",
    "xsetbv": "XCR0 is checked by KVM",
    "avic_incomplete_ipi": "hardware could not deliver an IPI",
    # Intel's, where it is not the same.
    "EPT_VIOLATION": "nested page fault: first touch of memory",
    "EPT_MISCONFIG": "MMIO of an emulated device",
    "MSR_READ": "MSR that KVM emulates: TSC_ADJUST, which Linux checks now and then",
}
SAME = {
    "physical_nmi": "nmi", "EXCEPTION_NMI": "nmi", "vmmcall": "hypercall",
    "VMCALL": "hypercall", "write_cr0_sel": "write_cr0", "write_cr4": "read_cr0",
    "CR_ACCESS": "read_cr0", "write_dr7": "read_dr0", "DB_excp": "read_dr0",
    "DR_ACCESS": "read_dr0", "IO_INSTRUCTION": "io", "MSR_WRITE": "msr", "CPUID": "cpuid",
    "HLT": "hlt", "PAUSE_INSTRUCTION": "pause", "XSETBV": "xsetbv", "WBINVD": "wbinvd",
}

# The names of MSRs in the manuals; those of the local APIC are x2APIC's.
REGISTER = {0x6e0: "TSC_DEADLINE", 0x80b: "EOI", 0x808: "TPR", 0x830: "ICR",
            0x832: "LVT_TIMER", 0x838: "TMICT", 0x839: "TMCCT", 0x83e: "TDCR",
            0x83f: "SELF_IPI"}

# What exclusive mode is there to remove: not one may be left.
REMOVED = {"interrupt": "external interrupts", "EXTERNAL_INTERRUPT": "external interrupts",
           "vintr": "interrupt windows", "INTERRUPT_WINDOW": "interrupt windows",
           "PREEMPTION_TIMER": "timer expiry", "EOI_INDUCED": "EOI",
           "APIC_WRITE": "APIC writes"}
REMOVED_WRITES = ("TMICT", "TSC_DEADLINE", "EOI")

# KVM's statistics of NMI kicks by cause.
KICK = "excl_kick_"

# The ordinary VM's longest pause, in seconds, and how often it must have been heard.
LONGEST_GAP = 10
FEWEST_BEATS = 5


def largest_first(*counts):
    """The keys of all of these, by their sums."""
    total = collections.Counter()
    for of in counts:
        total.update(of)
    return sorted(total, key=lambda key: (-total[key], key))


def why(reason):
    return WHY.get(SAME.get(reason, reason), "not explained yet")


def msr_name(access, number):
    return "%s %s" % (access, REGISTER.get(number, "0x%x" % number))


class Load:
    """One load in one mode."""

    def __init__(self, directory, mode, name, requests, assigned):
        self.mode, self.name, self.requests, self.assigned = mode, name, requests, assigned
        where = os.path.join(directory, "%s-%s" % (mode, name))
        told = records.read(os.path.join(where, "result.jsonl"))
        result = next((r for r in told if r.get("load") == name), None)
        self.ended = result is not None
        result = result or {}
        self.lost = result.get("failed", requests)
        self.ms, self.timers, self.ipis, self.devices = (
            result.get(key, 0) for key in ("ms", "timers", "ipis", "devices"))
        self.host_irqs = sum(r["count"] for r in records.of_kind(told, "host_irqs"))
        counted = records.read(os.path.join(where, "exits.jsonl"))
        self.reasons = {r["reason"]: r["count"] for r in records.of_kind(counted, "exit")}
        self.total = sum(self.reasons.values())
        self.msrs = collections.Counter()
        for record in records.of_kind(counted, "msr"):
            self.msrs[msr_name(record["access"], record["msr"])] += record["count"]
        counters = {r["name"]: r["count"] for r in records.of_kind(counted, "counter")}
        self.counted = counters.get("exits", 0)
        # What an IPI sent in assembly leaves is this counter alone.
        self.unseen = counters.get("excl_ipi_fast", 0)
        self.kicks = {name[len(KICK):]: count for name, count in counters.items()
                      if name.startswith(KICK) and not name.endswith("_hist")}

    def json(self, reasons):
        """With each of the reasons, which the other mode may have alone."""
        document = {"total": self.total}
        if self.assigned:
            document.update(device_irqs=self.devices, host_irqs=self.host_irqs)
        document.update(by_reason={**reasons, **self.reasons}, unseen_by_perf=self.unseen, kicks=self.kicks)
        return document


def beside(beats):
    """How the ordinary VM did: a sentence, and what is wrong with it, if anything."""
    bad = ""
    longest = 0.0
    for was, now in zip(beats, beats[1:]):
        if now["beat"] != was["beat"] + 1:
            bad = "a beat is missing after number %d" % was["beat"]
        longest = max(longest, now["uptime"] - was["uptime"])
        if now["timers"] <= was["timers"]:
            bad = "no timer interrupt in second %d" % now["beat"]
    if len(beats) < FEWEST_BEATS:
        bad = "only %d beats" % len(beats)
    if longest > LONGEST_GAP:
        bad = "a pause of %.2f s" % longest
    return "beats=%d longest_gap=%.2f %s" % (len(beats), longest, bad or "ok"), bad


class Demo:
    """Everything that one emulated host has left."""

    def __init__(self, directory):
        self.loads = collections.OrderedDict()
        self.modes = []
        for record in records.read(os.path.join(directory, "loads.jsonl")):
            mode = record["mode"]
            if mode not in self.modes:
                self.modes.append(mode)
            self.loads.setdefault(record["load"], {})[mode] = Load(
                directory, mode, record["load"], record["requests"], bool(record["assigned"]))
        self.beats = {mode: records.read(os.path.join(directory, "beats-%s.jsonl" % mode))
                      for mode in self.modes}

    def json(self, platform, kernel):
        workloads = []
        for name, by_mode in self.loads.items():
            workload = {"name": name,
                        "requests": max(load.requests for load in by_mode.values()),
                        "failed": sum(load.lost for load in by_mode.values())}
            reasons = {reason: 0 for load in by_mode.values() for reason in load.reasons}
            workload.update((mode, by_mode[mode].json(reasons))
                            for mode in MODES if mode in by_mode)
            workloads.append(workload)
        return {"platform": platform, "kernel": kernel, "workloads": workloads}


def failures_of(demo, max_share):
    """What is wrong with it, a sentence each."""
    if not demo.loads:
        yield "nothing was measured"
    for name, by_mode in demo.loads.items():
        for mode in MODES:
            if mode in by_mode:
                yield from failures_of_load(name, by_mode[mode])
        if "exclusive" in by_mode:
            yield from failures_of_exclusive(name, by_mode["exclusive"])
        if set(MODES) <= set(by_mode) and max_share is not None:
            left = by_mode["exclusive"].total + by_mode["exclusive"].unseen
            stock = by_mode["stock"].total
            if left * 100 >= max_share * stock:
                yield "%s: %d exits in exclusive mode are not under %g%% of %d" % (
                    name, left, max_share, stock)
    for mode in demo.modes:
        bad = beside(demo.beats[mode])[1]
        if bad:
            yield "%s: the ordinary VM noticed: %s" % (mode, bad)


def failures_of_load(name, load):
    if not load.ended:
        yield "%s: no result in %s mode" % (name, load.mode)
    if load.lost:
        yield "%s lost %d requests in %s mode" % (name, load.lost, load.mode)
    if load.mode == "stock" and not load.total:
        yield "no exits were counted for %s in stock mode" % name
    if not load.counted:
        yield "%s: KVM's own counters were not read in %s mode" % (name, load.mode)
    if load.assigned and not load.devices:
        yield "%s: no interrupt from the assigned device in %s mode" % (name, load.mode)


def failures_of_exclusive(name, load):
    left = [(REMOVED[reason], count) for reason, count in load.reasons.items()
            if reason in REMOVED]
    left += [("write %s" % register, load.msrs["write %s" % register])
             for register in REMOVED_WRITES]
    for what, count in left:
        if count:
            yield "%s: %d exits in exclusive mode for %s" % (name, count, what)
    if load.host_irqs:
        yield "%s: the host took %d of the device's interrupts in exclusive mode" % (
            name, load.host_irqs)
    if not load.timers:
        yield "%s: the guest took no timer interrupt in exclusive mode" % name


def table(demo, name):
    """Lines of one load's table."""
    by_mode = demo.loads[name]
    shown = [mode for mode in MODES if mode in by_mode]
    both = len(shown) == 2
    requests = max(load.requests for load in by_mode.values())

    def row(title, counts):
        line = "  %-22s" % title
        for mode in shown:
            line += " %10d %12.2f" % (counts[mode], counts[mode] * 1000 / requests)
        if both:
            line += " %9s" % ("%.2f%%" % ((counts["stock"] - counts["exclusive"]) * 100 /
                                          counts["stock"]) if counts["stock"] else "-")
        return line

    heads = "".join(" %10s %12s" % (mode, "per 1000 req") for mode in shown)
    lines = ["%s, %d requests" % (name, requests), "",
             "  %-22s" % "exit reason" + heads + (" %9s" % "reduction" if both else "")]

    def count(what, key):
        return {mode: getattr(by_mode[mode], what).get(key, 0) for mode in shown}

    reasons = largest_first(*(load.reasons for load in by_mode.values()))
    msrs = sorted({key for load in by_mode.values() for key in load.msrs})
    lines += [row(key, count("reasons", key)) for key in reasons]
    lines.append(row("total", {mode: by_mode[mode].total for mode in shown}))
    lines += [row("msr: " + key, count("msrs", key)) for key in msrs]
    lines.append(row("not seen by perf", {mode: by_mode[mode].unseen for mode in shown}))
    lines.append("")
    for mode in shown:
        lines += account(by_mode[mode], requests)
    if both:
        lines += ["", "  What remains in exclusive mode:"]
        lines += ["    %-20s %s" % (key, why(key)) for key in reasons
                  if by_mode["exclusive"].reasons.get(key)]
    return lines + [""]


def account(load, requests):
    kicks = " ".join("%s %d" % pair for pair in load.kicks.items()) or "none"
    lines = ["  %s: %d of %d requests succeeded in %.1f s of the guest's time; KVM's own exit "
             "counter: %d; NMI kicks: %s" % (load.mode, requests - load.lost, requests,
                                             load.ms / 1000, load.counted, kicks),
             "    in the guest meanwhile: %d timer interrupts, %d IPIs taken" % (
                 load.timers, load.ipis)]
    if load.assigned:
        lines.append("    from assigned devices: %d interrupts in the guest, %d in the host; "
                     "%.3f exits for each" % (load.devices, load.host_irqs,
                                              load.total / load.devices if load.devices else 0))
    return lines


def judge(directory, platform, max_share, output):
    """Table and verdict as text, the JSON file; whether it is good."""
    demo = Demo(directory)
    kernel = records.release_of(os.path.join(directory, "console.log"))
    lines = ["VM exits, %s host, linux %s, counted by perf kvm stat over exactly the load" %
             (platform, kernel),
             "The host is emulated: the times below say nothing about silicon.", ""]
    for name in demo.loads:
        lines += table(demo, name)
    for mode in demo.modes:
        lines.append("The ordinary VM beside the %s one: %s" % (mode, beside(demo.beats[mode])[0]))
    failures = list(failures_of(demo, max_share))
    records.save(output, demo.json(platform, kernel))
    return lines + ["FAIL: " + text for text in failures], not failures
