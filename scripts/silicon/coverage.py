#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""
What "make silicon" asks of Bochs, and what it makes of the answer.

  coverage.py keys VMLINUX PLATFORM SEED [KEY=VALUE,...]
      print a run's BOCHS_ADVERSARY.  Keys that are given replace the defaults; one range
      replaces all of them.  A range is SYMBOL (a whole function), SYMBOL-SYMBOL or LO-HI.

  coverage.py ranges PLATFORM [KEY=VALUE,...]
      print the names of the ranges that this gives.

  coverage.py report JSON VMLINUX PLATFORMS SEEDS RUNS
      add up the runs of each of the SEEDS on each of the PLATFORMS (words), print what was
      found and write it to JSON.  RUNS/SEED-PLATFORM has what scripts/test/groups.sh left:
      results.jsonl, tap/ and coverage, and the files status, "STATUS SECONDS", and ranges.  The
      status is 0 only when each of them ran, every test passed and, with four seeds or more on
      a platform, what has to be covered there is.

  coverage.py mutants JSON RESULTS RUNS
      the same for the planted bugs: a line of RESULTS is NAME PLATFORM SEED SECONDS, with a
      SEED of none where none found it; RUNS/mutant-NAME is the last run.

VMLINUX is - where no ranges are wanted.

A boundary is the state before an instruction.  It counts as covered when the CPU took an
NMI there, as Bochs reports it, not when one was sent.
"""
import bisect
import collections
import json
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from results.tests import records_in, results_of, verdict  # noqa: E402  scripts/results

# Short of what real machines do: a tick is an instruction, some 0.3 ns.
KEYS = ("ipi=3000,bait=8000,timer=2000,nmi=15000,stop=300000:20000,sti=1,mwait=4096,"
        "skew=50,cpus=14")
RANGES = {
    "intel": """smi=vmx_exclusive_check_start-vmx_exclusive_check_end
                look=__vmx_vcpu_run_exclusive look=vmx_vcpu_enter_exit look=vmx_vcpu_run
                look=__kvm_excl_put_back look=guest_irq_put_back smi=ipi_nmi_post
                look=excl_detach""",
    "amd-bochs": """slow=__svm_vcpu_run_exclusive look=svm_vcpu_run look=__kvm_excl_put_back
                    look=guest_irq_put_back smi=ipi_nmi_post look=excl_detach
                    look=sysvec_owned_cpu_kick""",
}
RANGE_KEYS = ("look", "guest", "smi", "slow")

# Every boundary of these that could have taken an NMI more than OFTEN times must have,
# in ENOUGH seeds.  One seed, as "make test" runs, leaves some to chance: it says which.
ENOUGH = 4
REQUIRED = ("vmx_exclusive_check_start", "__vmx_vcpu_run_exclusive",
            "__svm_vcpu_run_exclusive")
OFTEN = 50

# The fields of a line of the report, behind the address.
FIELDS = "ran nmi interrupt arrived stopped no_gif shadow blocked".split()
Cell = collections.namedtuple("Cell", FIELDS)

# Where tests print how many interrupts came of how many: "A of B" in these lines.
COUNTED = re.compile(r"^# (?:.*: )?(?:timer|IPI|irqfd|one-shot|periodic|direct|assisted|"
                     r"edge|MSI|level|\d+ of \d+ IPIs)\b|^# .*: \d+ of \d+")
OF = re.compile(r"(\w+)?[: ]*\b(\d+) of (\d+)\b(?! lost)")
LOST = re.compile(r"\blost (\d+)(?:, doubled (\d+))?")


class Symbols:
    """The symbols of a kernel's text, by name and by address."""

    def __init__(self, vmlinux):
        self.by_name = {}
        self.sorted = []
        self.addresses = []
        if vmlinux == "-":
            return
        out = subprocess.run(["nm", "-n", "-S", vmlinux], check=True, text=True,
                             stdout=subprocess.PIPE).stdout
        for line in out.splitlines():
            word = line.split()
            if word[-2] not in "tTwW":
                continue
            lo = int(word[0], 16)
            size = int(word[1], 16) if len(word) == 4 else 0
            self.by_name.setdefault(word[-1], (lo, size))
            self.sorted.append((lo, word[-1]))
        self.addresses = [lo for lo, _ in self.sorted]

    def find(self, name):
        """Address and size; the compiler may have added a suffix to a static function."""
        if name in self.by_name:
            return self.by_name[name]
        for other, where in self.by_name.items():
            if re.fullmatch(re.escape(name) + r"\.(isra|constprop|part)\.\d+.*", other):
                return where
        sys.exit(f"coverage: no symbol {name} in this kernel")

    def range(self, text):
        """LO-HI of SYMBOL, SYMBOL-SYMBOL or LO-HI."""
        first, _, last = text.partition("-")
        if last and re.fullmatch(r"[0-9a-f]{8,16}", first):
            return int(first, 16), int(last, 16)
        lo, size = self.find(first)
        return (lo, self.find(last)[0]) if last else (lo, lo + size)

    def at(self, address):
        """SYMBOL+0xOFFSET"""
        lo, name = self.sorted[bisect.bisect_right(self.addresses, address) - 1]
        return f"{name}+{address - lo:#x}"


def split_keys(text):
    """KEY=VALUE,... as a list of pairs."""
    pairs = [word.partition("=") for word in re.split(r"[,\s]+", text) if word]
    return [(key, value) for key, _, value in pairs]


def keys(vmlinux, platform, seed, given=""):
    """A run's BOCHS_ADVERSARY."""
    given = split_keys(given)
    ranges = [pair for pair in given if pair[0] in RANGE_KEYS]
    scalars = dict(split_keys(KEYS))
    scalars["seed"] = seed
    if platform == "intel" and int(seed) % 2 == 0:
        scalars["ipiv"] = "1"
    scalars.update(pair for pair in given if pair[0] not in RANGE_KEYS)
    symbols = Symbols(vmlinux)
    words = [f"{key}={value}" for key, value in scalars.items() if value]
    for key, name in (ranges or split_keys(RANGES[platform])) if vmlinux != "-" else []:
        lo, hi = symbols.range(name)
        words.append(f"{key}={lo:x}-{hi:x}")
    print(",".join(words))


class Run:
    """One seed on one platform."""

    def __init__(self, path, platform, seed):
        self.path = path
        self.platform = platform
        self.seed = int(seed)
        self.passed, self.failed = [], []
        for result in results_of(records_in(os.path.join(path, "results.jsonl"))):
            if verdict(result) == "pass":
                self.passed.append(result.name)
            elif verdict(result) == "fail":
                self.failed.append((result.name, result.reason))
        status = self.lines("status")
        # What came to no end has none.
        self.ran = bool(status)
        self.seconds = int(status[0].split()[1]) if status else 0
        if self.ran and status[0].split()[0] != "0" and not self.failed:
            self.failed.append(("run", "status " + status[0].split()[0]))
        if not self.failed and not self.ran:
            self.failed.append(("run", "it did not run, or not to its end"))
        if not self.passed and not self.failed:
            self.failed.append(("run", "no results"))
        self.cells, self.totals = {}, [0] * 4
        for line in self.lines("coverage"):
            word = line.split()
            if word[0] == "total":
                self.totals = [int(n) for n in word[1:]]
            elif len(word) == len(FIELDS) + 1:
                self.cells[int(word[0], 16)] = Cell(*(int(n) for n in word[1:]))
        self.lost, self.doubled = self.count_interrupts()

    def lines(self, name):
        """Of a file, which may not be there."""
        try:
            with open(os.path.join(self.path, name), errors="replace") as file:
                return file.read().splitlines()
        except OSError:
            return []

    def count_interrupts(self):
        """Lost and doubled ones, by what the tests print: "lost A, doubled B", and
        "A of B" where A interrupts came of B.  A test prints the same loss both ways."""
        lost = doubled = 0
        tap = os.path.join(self.path, "tap")
        for name in sorted(os.listdir(tap)) if os.path.isdir(tap) else []:
            said = [0, 0]
            counted = [0, 0]
            for line in self.lines(os.path.join("tap", name)):
                if not line.startswith("#"):
                    continue
                match = LOST.search(line)
                if match:
                    said[0] += int(match[1])
                    said[1] += int(match[2] or 0)
                if not COUNTED.match(line):
                    continue
                for match in OF.finditer(line):
                    came, sent = int(match[2]), int(match[3])
                    counted[0] += max(sent - came, 0)
                    counted[1] += max(came - sent, 0)
            lost += max(said[0], counted[0])
            doubled += max(said[1], counted[1])
        return lost, doubled

    def name(self):
        return f"seed {self.seed} {self.platform}"

    def again(self):
        return f"make silicon SEED={self.seed} PLATFORM={self.platform}"


def add_up(runs):
    """The cells of several runs."""
    total = collections.defaultdict(lambda: [0] * len(FIELDS))
    for run in runs:
        for address, cell in run.cells.items():
            total[address] = [a + b for a, b in zip(total[address], cell)]
    return {address: Cell(*count) for address, count in sorted(total.items())}


def describe(symbols, platform, name, where, cells):
    """What the boundaries of one range have met."""
    lo, hi = where
    mine = {a: c for a, c in cells.items() if lo <= a < hi}
    open_ = {a: c.ran - c.no_gif - c.shadow - c.blocked for a, c in mine.items()}

    def never(reason):
        # It ran, always in this state.
        return [symbols.at(a) for a, c in mine.items() if c.ran and not c.nmi and
                getattr(c, reason) and open_[a] <= 0 and
                getattr(c, reason) == max(c.no_gif, c.shadow, c.blocked)]

    symbol = name.partition("-")[0]
    return {
        "symbol": symbol,
        "platform": platform,
        "required": symbol in REQUIRED,
        "instructions": len(mine),
        "ran": sum(c.ran for c in mine.values()),
        "nmi": sum(1 for c in mine.values() if c.nmi),
        "interrupt": sum(1 for c in mine.values() if c.interrupt),
        "arrived": sum(1 for c in mine.values() if c.arrived),
        "stopped": sum(1 for c in mine.values() if c.stopped),
        "gif_0": never("no_gif"),
        "shadow": never("shadow"),
        "nmi_blocked": never("blocked"),
        "rare": [symbols.at(a) for a, c in mine.items() if not c.nmi and 0 < open_[a] <= OFTEN],
        "none_at": [symbols.at(a) for a, c in mine.items() if not c.nmi and open_[a] > OFTEN],
    }


def report(path, vmlinux, platforms, seeds, directory):
    """Print the runs and what they have covered; return the status."""
    symbols = Symbols(vmlinux)
    platforms = sorted(set(platforms.split()), key=lambda p: (p != "intel", p))
    seeds = sorted({int(seed) for seed in seeds.split()})
    runs = [Run(os.path.join(directory, f"{seed}-{platform}"), platform, seed)
            for seed in seeds for platform in platforms]
    ran = {platform: [run.seed for run in runs if run.platform == platform and run.ran]
           for platform in platforms}
    for seed in seeds:
        row = f"seed {seed:<3}"
        for platform in platforms:
            for run in runs:
                if (run.seed, run.platform) == (seed, platform):
                    what = f"{len(run.passed):3} passed, {len(run.failed)} failed"
                    time = f"{run.seconds // 60}:{run.seconds % 60:02}"
                    row += f" {platform:>10} {what if run.ran else 'DID NOT RUN':21} {time:5} "
        print(row.rstrip())

    ranges = []
    print(f"\n{'boundaries':<34}{'ran':>5}{'NMI':>6}{'int.':>6}{'sent':>6}{'stop':>6}"
          f"{'GIF 0':>7}{'shadow':>8}{'in NMI':>8}{'rare':>6}  no NMI at")
    for platform in platforms:
        mine = [run for run in runs if run.platform == platform]
        cells = add_up(mine)
        # A range that lies in another one is told first and not again.
        asked = []
        for run in mine:
            for line in run.lines("ranges"):
                if line not in asked:
                    asked.append(line)
        for name in asked if vmlinux != "-" else []:
            where = symbols.range(name)
            this = describe(symbols, platform, name, where, cells)
            cells = {a: c for a, c in cells.items() if not where[0] <= a < where[1]}
            ranges.append(this)
            none = " ".join("+" + at.partition("+")[2] for at in this["none_at"][:6])
            if len(this["none_at"]) > 6:
                none += f" and {len(this['none_at']) - 6} more"
            print(f"{this['symbol']:<34}{this['instructions']:>5}{this['nmi']:>6}"
                  f"{this['interrupt']:>6}{this['arrived']:>6}{this['stopped']:>6}"
                  f"{len(this['gif_0']):>7}{len(this['shadow']):>8}{len(this['nmi_blocked']):>8}"
                  f"{len(this['rare']):>6}  {none}".rstrip())

    totals = [sum(run.totals[i] for run in runs) for i in range(4)]
    lost, doubled = sum(run.lost for run in runs), sum(run.doubled for run in runs)
    print(f"\n{totals[0]} IPIs and {totals[1]} expiries were late, {totals[2]} stops, "
          f"{totals[3]} NMIs that nobody sent; {lost} interrupts lost, {doubled} doubled")

    bad = 0
    for run in runs:
        for name, reason in run.failed:
            print(f"failed: {run.name()} {name}: {reason}\n        again: {run.again()}")
            bad += 1
    for this in ranges:
        if this["required"] and this["none_at"]:
            judged = len(ran[this["platform"]]) >= ENOUGH
            print(f"{'failed' if judged else 'not judged in so few seeds'}: "
                  f"{this['platform']}: {len(this['none_at'])} boundaries of "
                  f"{this['symbol']} took no NMI")
            bad += judged
        if this["required"] and not this["instructions"]:
            print(f"failed: {this['platform']}: {this['symbol']} never ran")
            bad += 1

    with open(path, "w") as file:
        json.dump({
            # Those asked for, and of each platform those that ran.
            "seeds": seeds,
            "ran": ran,
            "platforms": platforms,
            "ranges": ranges,
            "injected": {"late_ipis": totals[0], "late_timers": totals[1], "smis": totals[2],
                         "spurious_nmis": totals[3]},
            "tests": {"passed": sum(len(run.passed) for run in runs),
                      "failed": sum(len(run.failed) for run in runs)},
            "failed": [{"seed": run.seed, "platform": run.platform, "test": name,
                        "reason": reason, "again": run.again()}
                       for run in runs for name, reason in run.failed],
            "lost": lost,
            "doubled": doubled,
        }, file, indent=1)
        file.write("\n")
    asked = f"seeds {' '.join(map(str, seeds))} on {' and '.join(platforms)}"
    missing = len(seeds) * len(platforms) - sum(map(len, ran.values()))
    print(f"silicon: {'failed' if bad else 'passed'}, {asked}" +
          (f", of which {missing} did not run" if missing else ""))
    return 1 if bad else 0


def mutants(path, results, runs):
    """Print which planted bugs were found, and how; return the status."""
    found = []
    with open(results) as file:
        for line in file:
            name, platform, seed, seconds = line.split()
            run = Run(os.path.join(runs, "mutant-" + name), platform, 0 if seed == "none" else seed)
            found.append({"mutant": name, "platform": platform, "found": seed != "none",
                          "seed": run.seed or None, "seconds": int(seconds),
                          "how": [f"{test}: {reason}" for test, reason in run.failed]})
            how = found[-1]["how"][0] if run.failed else ""
            print(f"{name:<34}{platform:>10}  " +
                  (f"found by seed {seed}: {how}" if seed != "none" else "NOT FOUND"))
    with open(path, "w") as file:
        json.dump({"mutants": found}, file, indent=1)
        file.write("\n")
    return 0 if found and all(this["found"] for this in found) else 1


def main(argv):
    if len(argv) >= 5 and argv[1] == "keys":
        keys(*argv[2:6])
    elif len(argv) >= 3 and argv[1] == "ranges":
        given = [value for key, value in split_keys(argv[3] if len(argv) > 3 else "")
                 if key in RANGE_KEYS]
        for name in given or [value for _, value in split_keys(RANGES[argv[2]])]:
            print(name)
    elif len(argv) == 7 and argv[1] == "report":
        return report(*argv[2:7])
    elif len(argv) == 5 and argv[1] == "mutants":
        return mutants(*argv[2:5])
    else:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
