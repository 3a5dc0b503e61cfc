# SPDX-License-Identifier: GPL-2.0
"""How long timers, IPIs, EOI and TPR take: "make latency", in ticks of Bochs.

In its directory are MODE.RUN.jsonl for both runs of each mode, with a record a row and one
that says that the guest came to its end:

  {"kind": "row", "name", "values": [[TICKS, COUNT], ...]}
  {"kind": "end"}

and disassembly, of the function that runs an attached vCPU.
"""

import os
import re
import statistics

from . import records

MODES = ("stock", "exclusive_c", "exclusive", "bare")
RUNS = (1, 2)
# Medians of two runs may differ by so much, and each is of so many samples.
AGREE = 0.02
FEWEST = 500
# Instructions that the host adds to a unicast IPI.
IPI_BOUND = 60
UNIT = "Bochs ticks (one instruction of each CPU)"

IPI_ROWS = {"unicast-physical": "IPI send, unicast physical",
            "unicast-cluster": "IPI send, unicast cluster",
            "self-ipi": "IPI send, self IPI"}
# Where a VM exit of an attached guest begins, and the instruction that enters it.
ENTRY = {"intel": "vmresume", "amd-bochs": "vmrun"}


def bound_of(name):
    """What exclusive may be, in terms of bare; None: no bound."""
    if name.startswith(("timer", "EOI", "TPR")):
        return 1.02
    if name.startswith("IPI send to handler, unicast"):
        return 1.3
    return None


def on_bare(name):
    """There is nobody to call on the bare machine."""
    return "hypercall" not in name


def median(values):
    """The lower median of [VALUE, COUNT] pairs, and how many samples there are."""
    values = sorted(values)
    samples = sum(count for _, count in values)
    seen = 0
    for value, count in values:
        seen += count
        if seen * 2 >= samples:
            return value, samples
    return None, 0


class Run:
    """One run of one mode: the median and the number of samples of each row."""

    def __init__(self, path):
        self.failure = ""
        try:
            told = records.read(path)
        except ValueError as error:
            # A console's line into which the kernel has printed something, for example.
            self.failure, told = str(error), []
        self.ended = bool(records.of_kind(told, "end"))
        self.rows = {r["name"]: median(r["values"]) for r in records.of_kind(told, "row")}


class Row:
    """One row in all modes, the mean of both runs' medians."""

    def __init__(self, name, runs):
        self.name = name
        self.bound = bound_of(name) if on_bare(name) else None
        self.value, self.spread, self.failures = {}, {}, []
        for mode in MODES:
            if mode == "bare" and not on_bare(name):
                continue
            medians = [runs[mode, run].rows.get(name, (None, 0)) for run in RUNS]
            if any(value is None or samples < FEWEST for value, samples in medians):
                self.failures.append("%s: %s lacks samples" % (name, mode))
                continue
            values = [value for value, _ in medians]
            self.value[mode] = statistics.fmean(values)
            self.spread[mode] = max(values) - min(values)
            if self.spread[mode] > AGREE * abs(min(values, key=abs)):
                self.failures.append("%s: two runs of %s differ by more than 2%%: %g and %g" %
                                     (name, mode, *values))
        self.met = self.judge()

    def judge(self):
        """Within 2% is meant both ways; quicker than bare would be wrong too."""
        exclusive, bare = self.value.get("exclusive"), self.value.get("bare")
        if self.bound is None or exclusive is None or bare is None:
            return None
        met = exclusive <= self.bound * bare and (
            self.bound > 1.1 or exclusive >= (2 - self.bound) * bare)
        if not met:
            self.failures.append("%s: exclusive takes %g, bare %g: more than %g times as much" %
                                 (self.name, exclusive, bare, self.bound))
        return met

    def json(self):
        return {"name": self.name, **{mode: self.value.get(mode) for mode in MODES},
                "bound": self.bound, "pass": self.met,
                "run_difference": {mode: self.spread.get(mode) for mode in MODES}}

    def line(self):
        def number(mode):
            value = self.value.get(mode)
            return "-" if value is None else "%g" % value

        exclusive, bare = self.value.get("exclusive"), self.value.get("bare")
        verdict = "-"
        if bare and exclusive is not None:
            verdict = "%.2f" % (exclusive / bare)
        elif bare == 0 and exclusive == 0:
            verdict = "1.00"
        if self.met is not None:
            verdict = "%-7s %s %g" % (verdict, "ok, bound" if self.met else "NOT MET, bound",
                                      self.bound)
        return "  %-42s %9s %12s %10s %6s  %s" % (
            self.name, number("stock"), number("exclusive_c"), number("exclusive"),
            number("bare"), verdict)


def instructions_of(disassembly):
    """(address, label that it stands under, text) of each instruction."""
    found = []
    label = ""
    for line in disassembly:
        head = re.match(r"[0-9a-f]+ <(.*)>:$", line)
        if head:
            label = head.group(1)
            continue
        match = re.match(r" *([0-9a-f]+):\t(.*)", line)
        if match:
            text = re.sub(r" *[#<].*", "", match.group(2))
            found.append((match.group(1), label, " ".join(text.split())))
    return found


def path_of(what, platform, disassembly):
    """The instructions that an IPI of the guest takes in the host, [] where they end nowhere.

    It begins at the VM exit and ends with the next entry. A conditional jump leads to C or
    to more than one destination and is not taken, but for those below. The alternatives'
    NOPs are one long NOP in a kernel that runs. Whether the way is right is seen by its
    length, which is compared with what was measured.
    """
    code = instructions_of(disassembly)
    at = {address: i for i, (address, _, _) in enumerate(code)}
    start = next((i for i, (_, label, _) in enumerate(code)
                  if label == "vmx_exclusive_vmexit" or
                  (i and code[i - 1][2].split()[0] == "vmrun")), None)
    path = []
    last = ""
    nop = False
    i = start
    while i is not None and i < len(code) and len(path) < 500:
        text = code[i][2]
        words = text.split()
        if words[0] == "nop" and nop:
            i += 1
            continue
        nop = words[0] == "nop"
        # Where a jump leads is an address, which says nothing here.
        path.append(words[0] if words[0].startswith("j") else text)
        if words[0] == ENTRY[platform]:
            return path
        jump = (words[0] == "jmp" or
                # Not the ICR; a logical destination.
                what == "self-ipi" and words[0] == "jne" and last.startswith("cmp $0x830,") or
                what == "unicast-cluster" and words[0] == "jb" and last.startswith("btr $0xb,"))
        last = text
        i = at.get(words[1]) if jump else i + 1
    return []


class Ipi:
    """The host's part of one kind of IPI: measured, and as it stands in the kernel."""

    def __init__(self, what, row, platform, disassembly):
        self.what = what
        self.bound = IPI_BOUND if what.startswith("unicast") else None
        self.path = path_of(what, platform, disassembly)
        # A kernel that is not there says nothing; one that is has the way.
        self.ends = bool(self.path) or not disassembly
        exclusive = row.value.get("exclusive") if row else None
        bare = row.value.get("bare") if row else None
        self.added = None if exclusive is None or bare is None else exclusive - bare

    def failures(self):
        if not self.ends:
            yield "%s: the way through the disassembly ends nowhere" % IPI_ROWS[self.what]
        if self.bound is not None and self.added is not None and self.added > self.bound:
            yield "%s: the host adds %g instructions, bound %d" % (
                IPI_ROWS[self.what], self.added, self.bound)

    def json(self):
        return {"name": self.what, "measured": self.added, "bound": self.bound,
                "disassembled": len(self.path), "instructions": self.path}

    def line(self):
        text = ""
        if self.bound is not None and self.added is not None:
            text = "%s %d" % ("ok, bound" if self.added <= self.bound else "NOT MET, bound",
                              self.bound)
        if self.path and len(self.path) != self.added:
            text += " (disassembly: %d)" % len(self.path)
        added = "-" if self.added is None else "%g" % self.added
        return ("  %-42s %9s  %s" % (self.what, added, text)).rstrip()


def judge(directory, platform, samples, output):
    """Lines of text, and whether all bounds hold; the JSON file."""
    runs = {(mode, run): Run(os.path.join(directory, "%s.%d.jsonl" % (mode, run)))
            for mode in MODES for run in RUNS}
    failures = ["%s, run %d: the guest did not come to its end" % key
                for key, run in runs.items() if not run.ended and not run.failure]
    failures += ["%s, run %d: %s" % (*key, run.failure)
                 for key, run in runs.items() if run.failure]
    names = list(dict.fromkeys(name for run in runs.values() for name in run.rows))
    rows = {name: Row(name, runs) for name in names}
    if not rows:
        failures.append("nothing was measured")
    disassembly = records.lines_of(os.path.join(directory, "disassembly"))
    ipis = [Ipi(what, rows.get(name), platform, disassembly) for what, name in IPI_ROWS.items()]
    for row in rows.values():
        failures += row.failures
    for ipi in ipis:
        failures += ipi.failures()
    records.save(output, {
        "platform": platform, "unit": UNIT, "samples": samples, "runs": len(RUNS),
        "rows": [row.json() for row in rows.values()],
        "host_instructions_per_ipi": [ipi.json() for ipi in ipis],
        "failures": failures, "pass": not failures})
    lines = ["latency on the emulated host \"%s\", in ticks (one instruction of each CPU)," %
             platform, "medians of %d samples, two runs" % samples, "",
             "  %-42s %9s %12s %10s %6s  %s" % ("", "stock", "exclusive_c", "exclusive", "bare",
                                                "exclusive / bare")]
    lines += [row.line() for row in rows.values()]
    lines += ["", "instructions the host adds to an IPI (IPI send, exclusive - bare)", ""]
    lines += [ipi.line() for ipi in ipis]
    if failures:
        lines += ["", "not met:"] + ["  " + text for text in failures]
    return lines, not failures
