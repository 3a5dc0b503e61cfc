# SPDX-License-Identifier: GPL-2.0
"""How quiet owned CPUs are: the six points of "make quiet".

Each emulated host leaves in its directory records.jsonl, and beside it what it has read from
the kernel, as it was.  Of the records

  {"kind": "figure", "name", "value"}               is a figure of its point
  {"kind": "stress", "phase", "name", "count"}      how often a stressor has run
  {"kind": "kicks", "phase", "cpus", "seconds"}     kicks-PHASE/ has the histograms: kicks.py
  {"kind": "lost", "name", "count"}                 what a trace had no room for
  {"kind": "traced", "name", "cpus", "seconds", "period_us"}
                                                    for how long rtla has recorded: traced()
  {"kind": "grace", "state", "phase", "grace", "ns"}  a grace period
  {"kind": "tasks", "alive", "all", "home", "tied"}   who has gone on, and is home again
  {"kind": "cputime", "phase", ...}                 what the vCPU's thread says of itself, ns;
                                                    cputime-PHASE/ has the rest
  {"kind": "count", "what", "min", "median", "mode", "often", "mean", "n"}
                                                    instructions
  {"kind": "end"}                                   the host came to its end
"""

import collections
import math
import operator
import os
import re

from . import kicks, records, stats

TITLES = {
    1: "kicks on owned CPUs under stress",
    2: "osnoise and timerlat against isolcpus and nohz_full",
    3: "grace periods while a guest spins",
    4: "claim and release under stress",
    5: "CPU time accounting",
    6: "instructions when off",
}
OPS = {"<=": operator.le, ">=": operator.ge, "=": operator.eq}
KICK = ("phase", "count", "cpu", "vector", "sender", "class", "site", "stack")

STRESSORS = ("module", "cpuset", "affinity", "sysctl", "irq_affinity", "hotplug", "stress_ng_cpu",
             "stress_ng_fork", "stress_ng_mmap", "stress_ng_timer", "stress_ng_switch")
# A chance of one in a thousand, in standard deviations.
UNLIKELY_Z = 3.09
# What may be above the maximum of as many samples of the same distribution: each further one
# is half as likely, so more than ten are one in a thousand.
EXCEEDANCES = 10
CONTEXTS = ("irq", "thread")
NOISES = ("nmi", "irq", "softirq", "thread")
# How many of the periods that there was time for rtla must have recorded, in percent.  Those of
# osnoise follow each other; an emulator that is late skips some of timerlat's.
OSNOISE_PERIODS = 80
TIMERLAT_PERIODS = 10
# By how many percent of the wall clock CPU time may be off, and by how many instructions more
# the patched kernel may need when it is off.
CPUTIME_OFF = 1
INSTRUCTIONS_MORE = 0.5


class Point:
    """One numbered point: it passes when it came to its end and every check holds."""

    def __init__(self, number):
        self.number = number
        self.title = TITLES[number]
        self.failure = ""
        self.checks, self.figures, self.kicks = [], {}, []

    def figure(self, name, value):
        self.figures[name] = value

    def check(self, name, value, op, bound, text):
        good = isinstance(value, (int, float)) and OPS[op](value, bound)
        self.checks.append({"what": name, "value": value, "op": op, "bound": bound,
                            "pass": good, "text": text})

    def good(self):
        return not self.failure and bool(self.checks) and all(c["pass"] for c in self.checks)

    def json(self):
        document = {"name": self.title, "pass": self.good()}
        if self.failure:
            document["failure"] = self.failure
        document.update(checks=self.checks, figures=self.figures,
                        kicks=[{key: kick[key] for key in KICK} for kick in self.kicks])
        return document

    def lines(self):
        yield "%s %d. %s" % ("pass" if self.good() else "FAIL", self.number, self.title)
        if self.failure:
            yield "       " + self.failure
        for check in self.checks:
            yield "       %-4s %-46s %12s %-2s %s" % (
                "ok" if check["pass"] else "FAIL", check["what"], check["value"], check["op"],
                check["bound"])
        for name, value in self.figures.items():
            yield "            %-46s %12s" % (name, value)
        if self.kicks:
            yield "            phase   count CPU vector                from class     call site"
        for kick in self.kicks:
            yield ("            %(phase)-6s %(count)6d %(cpu)3d %(vector)-20s %(sender)5d "
                   "%(class)-8s %(stack)s" % kick)


class Host:
    """What one emulated host has left for a point."""

    def __init__(self, point, directory):
        self.point = point
        self.directory = directory
        self.records = records.read(self.path("records.jsonl"))
        # What it has left all the same is shown.
        if not self.of("end"):
            point.failure = "%s did not come to its end" % os.path.basename(directory)
        for record in self.of("figure"):
            point.figure(record["name"], record["value"])
        for record in self.of("lost"):
            point.check(record["name"], record["count"], "=", 0, "what the buffer could not hold")

    def path(self, *names):
        return os.path.join(self.directory, *names)

    def of(self, kind):
        return records.of_kind(self.records, kind)

    def stress(self, *phases):
        """Each stressor must have run in each phase, or nothing was shown."""
        for phase in phases:
            ran = {record["name"]: record["count"] for record in self.of("stress")
                   if record["phase"] == phase}
            for name in STRESSORS:
                self.point.check("%s.%s" % (phase, name), ran.get(name, 0), ">=", 1,
                                 "times the stressor has run")

    def traced(self, name, percent, periods):
        """A run that recorded nothing, or next to it, has shown nothing.  PERIODS(CPU) is what it
        recorded of a CPU."""
        run = {record["name"]: record for record in self.of("traced")}[name]
        least = min(periods(int(cpu)) for cpu in str(run["cpus"]).split(","))
        expected = run["seconds"] * 1000000 / run["period_us"]
        self.point.check(name + ".periods", least, ">=", max(1, int(expected * percent / 100)),
                         "recorded by rtla, on the CPU with the fewest")

    def kicks(self, everyone, bound, *phases):
        """The kicks of these phases; those that not every CPU is asked for are judged or shown."""
        told = {record["phase"]: record for record in self.of("kicks")}
        for phase in phases:
            record = told[phase]
            cpus = [int(cpu) for cpu in str(record["cpus"]).split(",")]
            found = kicks.Kicks(self.path("kicks-" + phase), phase, cpus, everyone)
            self.point.kicks += found.list
            self.point.figure(phase + ".seconds", record["seconds"])
            for path, count in found.handled.items():
                self.point.figure("%s.handled.%s" % (phase, path), count)
            for cpu in cpus:
                self.kicks_of(found, "%s.cpu%d" % (phase, cpu), cpu,
                              record["seconds"] if bound else None)
            self.point.check(phase + ".sends_not_recorded", found.dropped, "=", 0,
                             "histogram full")
        self.point.kicks.sort(key=lambda kick: -kick["count"])

    def kicks_of(self, found, name, cpu, bound):
        for what, value in (("directed_at_every_cpu", found.by_class["everyone", cpu]),
                            ("self", found.by_class["self", cpu]),
                            ("nmi_exits", found.nmi_exits[cpu]), ("exits", found.exits[cpu])):
            self.point.figure("%s.%s" % (name, what), value)
        beyond = found.by_class["beyond", cpu]
        if bound is None:
            self.point.figure(name + ".kicks_beyond", beyond)
        else:
            self.point.check(name + ".kicks_beyond", beyond, "<=", bound,
                             "one a second, those directed at every CPU apart")
        # An exit that no send explains is one that was missed.
        self.point.check(name + ".nmi_exits_attributed", found.nmi_exits[cpu], "<=",
                         found.sent[cpu], "every NMI exit has a send that was seen")


def point_1(point, host, everyone):
    kicks_host = host("kicks")
    kicks_host.kicks(everyone, True, "spin", "redis")
    kicks_host.stress("spin", "redis")
    loads = [r["count"] for r in kicks_host.of("loads")]
    point.check("redis.loads", loads[0] if loads else 0, ">=", 1,
                "loads of 4000 requests that redis has finished meanwhile")


# What rtla saves, the kernel's text of a trace: TASK-PID [CPU] FLAGS TIME: WHAT.  A task's name
# may hold anything.
LINE = re.compile(r".*?-\d+ +\[(\d+)\] +\S+ +(\d+\.\d+): (.*)")
MARK = re.compile(r"tracing_mark_write: measured$")
LOST = re.compile(r"CPU:\d+ \[LOST .*EVENTS\]")


def traced(path):
    """CPU, time and text of each line from the mark on.  Before it are the tracer's start, and
    events that are then switched off."""
    name = os.path.basename(path)
    marked = False
    for line in records.lines_of(path):
        if LOST.match(line):
            raise ValueError("%s: %s" % (name, line))
        match = LINE.match(line)
        if not match:
            continue
        if marked:
            yield int(match.group(1)), float(match.group(2)), match.group(3)
        marked = marked or bool(MARK.match(match.group(3)))
    if not marked:
        raise ValueError(name + ": no mark")


# Microseconds: a period, its noise, the percentage that is left, the longest noise; then what
# there was of it: hardware's and NOISES.
PERIOD = re.compile(r"\d+ +\d+ +\d+\.\d+ +\d+((?: +\d+){5})$")


def osnoise(path):
    """Sums of the tracer's columns over its periods.  The first one began before the mark."""
    sums = collections.OrderedDict.fromkeys(("periods", "hw", *NOISES), 0)
    matches = (PERIOD.match(text) for _, _, text in traced(path))
    for match in list(filter(None, matches))[1:]:
        sums["periods"] += 1
        for name, word in zip(("hw", *NOISES), match.group(1).split()):
            sums[name] += int(word)
    sums["interference"] = sum(sums[name] for name in NOISES)
    return sums


class Timerlat:
    """Latencies of the timerlat tracer, in ns, and what has interrupted its CPU."""

    LATENCY = re.compile(r"#\d+ +context +(irq|thread) timer_latency +(\d+) ns$")
    NOISE = re.compile(r"(nmi|irq|softirq|thread)_noise: ")

    def __init__(self, path):
        self.samples = {context: [] for context in CONTEXTS}
        self.periods = collections.Counter()
        self.noises = collections.Counter()
        for cpu, when, text in traced(path):
            match = self.LATENCY.match(text)
            if match:
                self.samples[match.group(1)].append((when, int(match.group(2))))
                self.periods[cpu, match.group(1)] += 1
            noise = self.NOISE.match(text)
            if noise:
                self.noises[noise.group(1)] += 1

    def periods_of(self, cpu):
        return min(self.periods[cpu, context] for context in CONTEXTS)

    def figures(self):
        for context, samples in self.samples.items():
            values = [value for _, value in samples]
            yield context + "_samples", len(values)
            for name, value in stats.percentiles(values, median_ns=0.5, p99_ns=0.99,
                                                 p999_ns=0.999, max_ns=1).items():
                yield "%s_%s" % (context, name), value

    def interference(self):
        """One interrupt and one run of the thread for each sample are the tracer's own."""
        count = self.noises
        own = {context: len(samples) for context, samples in self.samples.items()}
        for kind in NOISES:
            yield kind, count[kind]
        yield "own_interrupts", own["irq"]
        yield "own_runs", own["thread"]
        yield "interference", (max(count["nmi"] + count["irq"] - own["irq"], 0) +
                               count["softirq"] + max(count["thread"] - own["thread"], 0))

    def above(self, context, bound):
        """How often a latency was above; samples within 20 ms of each other are one event."""
        events = 0
        last = -math.inf
        for when, value in self.samples[context]:
            if value > bound and not last <= when <= last + 0.02:
                events += 1
                last = when
        return events


def point_2(point, host, _everyone):
    seen = {}
    for mode in ("owned", "boot"):
        left = host("noise-" + mode)
        sums = osnoise(left.path("osnoise." + mode))
        timerlat = Timerlat(left.path("timerlat." + mode))
        left.traced("osnoise." + mode, OSNOISE_PERIODS, lambda _cpu, of=sums: of["periods"])
        left.traced("timerlat." + mode, TIMERLAT_PERIODS, timerlat.periods_of)
        for name, value in sums.items():
            point.figure("osnoise.%s.%s" % (mode, name), value)
        for name, value in [*timerlat.figures(), *timerlat.interference()]:
            point.figure("timerlat.%s.%s" % (mode, name), value)
        seen["osnoise", mode] = sums["interference"]
        seen["timerlat", mode] = point.figures["timerlat.%s.interference" % mode]
    # Counts of the same thing in the same time: higher is what chance does not explain.
    for tracer in ("osnoise", "timerlat"):
        boot = seen[tracer, "boot"]
        point.check(tracer + ".interference", seen[tracer, "owned"], "<=",
                    int(boot + 3 * math.sqrt(boot + 1)),
                    "NMIs, interrupts, softirqs and threads, against %d with boot parameters" %
                    boot)


def point_3(point, host, everyone):
    left = host("rcu")
    left.kicks(everyone, False, "spin")
    for grace in ("normal", "expedited"):
        samples = collections.defaultdict(list)
        phases = collections.defaultdict(list)
        for record in left.of("grace"):
            if record["grace"] == grace:
                samples[record["state"]].append(record["ns"])
                phases[record["state"], record["phase"]].append(record["ns"])
        for state in ("idle", "spin"):
            point.figure("%s.%s.samples" % (grace, state), len(samples[state]))
            for name, value in stats.percentiles(samples[state], median_ns=0.5, p90_ns=0.9,
                                                 max_ns=1).items():
                point.figure("%s.%s.%s" % (grace, state, name), value)
        # Higher or not: the phases' medians by rank, which no outlier moves.  Not the
        # samples, for those of a phase are alike.
        medians = {state: [stats.percentiles(values, median=0.5)["median"]
                           for (of, _), values in phases.items() if of == state]
                   for state in ("idle", "spin")}
        if not medians["idle"] or not medians["spin"]:
            raise ValueError("no grace periods were timed: " + grace)
        z, share = stats.rank_test(medians["spin"], medians["idle"])
        point.figure(grace + ".phases", len(phases))
        point.figure(grace + ".spin_over_idle_share", round(share, 3))
        point.check(grace + ".spin_over_idle_z", round(z, 2), "<=", UNLIKELY_Z,
                    "is spinning slower than idle, in standard deviations (a chance of one in a "
                    "thousand)")
    # No grace period has a reason to disturb a guest.
    of_rcu = re.compile(r"(^|<)_*(rcu_|sync_rcu|synchronize_rcu)")
    point.check("kicks_of_rcu", sum(kick["count"] for kick in point.kicks
                                    if of_rcu.search(kick["stack"])), "=", 0,
                "IPIs from RCU to the spinning guest")
    point.check("stall_warnings", sum(r["count"] for r in left.of("stalls")), "=", 0,
                "in the kernel log")


def point_4(point, host, _everyone):
    left = host("cycles")
    left.stress("cycles")
    timerlat = {mode: Timerlat(left.path("timerlat." + mode)) for mode in ("with", "without")}
    for mode, of in timerlat.items():
        left.traced(mode, TIMERLAT_PERIODS, of.periods_of)
        for name, value in of.figures():
            point.figure("%s.%s" % (mode, name), value)
    for context in CONTEXTS:
        counts = {mode: len(of.samples[context]) for mode, of in timerlat.items()}
        if not counts["without"]:
            raise ValueError("no latencies without claims: " + context)
        most = max(value for _, value in timerlat["without"].samples[context])
        point.check(context + "_spikes", timerlat["with"].above(context, most), "<=",
                    math.ceil(EXCEEDANCES * counts["with"] / counts["without"]),
                    "latencies with above the maximum without")
    for tasks in left.of("tasks"):
        point.check("tasks_alive", tasks["alive"], "=", tasks["all"], "tasks that have gone on")
        point.check("tasks_home", tasks["home"], "=", tasks["tied"],
                    "tasks tied to the CPU that run there again")
    if not left.of("tasks"):
        raise ValueError("nobody has looked at the tasks")


# Columns of /proc/stat, in ticks of 10 ms.
COLUMNS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest")
OWNED_CPU = "cpu3"


def stat_of(path):
    """(uptime in s, ms of each column of each CPU) of /proc/uptime and /proc/stat."""
    now, cpus = 0.0, collections.OrderedDict()
    for words in map(str.split, records.lines_of(path)):
        if words[0] == "now":
            now = float(words[1])
        else:
            cpus[words[0]] = {column: int(ticks) * 10
                              for column, ticks in zip(COLUMNS, words[1:])}
    return now, cpus


def switches_of(path, begin, end):
    """How many were traced, and how many ms each CPU has run somebody, or None where it has
    not switched, from begin to end."""
    traced = 0
    run = collections.defaultdict(float)
    last, current = {}, {}
    pattern = re.compile(r"\[(\d+)\].*? (\d+\.\d+): sched_switch: .*prev_pid=(\d+) .*"
                         r"next_pid=(\d+)")

    def ran(cpu, pid, since, until):
        if pid and until > since:
            run[cpu] += (until - since) * 1000

    for line in records.lines_of(path):
        match = pattern.search(line)
        if not match:
            continue
        cpu, when = "cpu%d" % int(match.group(1)), float(match.group(2))
        if begin <= when <= end:
            ran(cpu, int(match.group(3)), max(last.get(cpu, begin), begin), when)
        last[cpu], current[cpu] = when, int(match.group(4))
        traced += 1
    for cpu, when in last.items():
        if when < end:
            ran(cpu, current[cpu], max(when, begin), end)
    return traced, run


def cputime(point, left, record, reference):
    """One phase.  Phase "boot" has no vCPU and is not judged: CPU 0's idle time is a
    reference there."""
    phase = record["phase"]
    where = left.path("cputime-" + phase)
    begin, was = stat_of(os.path.join(where, "stat.before"))
    end, now = stat_of(os.path.join(where, "stat.after"))
    spent = {cpu: {column: of[column] - was[cpu][column] for column in of}
             for cpu, of in now.items()}
    traced, run = switches_of(os.path.join(where, "switches"), begin, end)
    stat_wall = (end - begin) * 1000
    thread = {name: record[name] / 1e6 for name in ("wall", "user", "system", "guest", "run")
              if name in record}

    def interrupts(cpu):
        return spent[cpu]["irq"] + spent[cpu]["softirq"]

    def off(what, got, want, wall, text, slack=0.0):
        percent = round(abs(100 * (got - want) / wall), 2)
        name = "%s.%s_off_percent" % (phase, what)
        if phase == "boot":
            point.figure(name, percent)
        else:
            point.check(name, percent, "<=", round(CPUTIME_OFF + slack, 2), text)

    def figure(what, ms):
        point.figure("%s.%s_ms" % (phase, what), round(ms))

    figure("stat_wall", stat_wall)
    point.figure(phase + ".switches_traced", traced)
    less_interrupts = "against wall time less interrupts"
    if thread:
        wall = thread["wall"]
        # What interrupts take of a thread's time is not the thread's.
        rest = wall - interrupts(OWNED_CPU)
        figure("wall", wall)
        for name in ("user", "system", "guest", "run"):
            figure("thread." + name, thread[name])
        # User time includes the guest, as everywhere in Linux.
        off("thread.user", thread["user"], 0 if phase == "system" else rest, wall,
            less_interrupts)
        off("thread.system", thread["system"], rest if phase == "system" else 0, wall,
            less_interrupts)
        off("thread.guest", thread["guest"], wall if phase == "guest" else 0, wall,
            "against wall time")
        off("thread.run", thread["run"], rest, wall, less_interrupts)
    # The answer comes as soon as the phase is over; the readings are further apart.
    wall = stat_wall
    for cpu, columns in spent.items():
        idle = columns["idle"] + columns["iowait"]
        whole = sum(columns[name] for name in COLUMNS[:8])
        figure(cpu + ".idle", idle)
        figure(cpu + ".interrupts", interrupts(cpu))
        figure(cpu + ".sum", whole)
        if cpu == OWNED_CPU:
            off(cpu + ".all", whole, wall, wall, "against wall time")
            continue
        figure(cpu + ".tasks", run[cpu])
        off(cpu + ".idle", idle, wall - interrupts(cpu) - run[cpu], wall,
            "against wall time less interrupts and traced tasks",
            reference if cpu == "cpu0" else 0.0)
    owned = spent[OWNED_CPU]
    if phase == "guest":
        off(OWNED_CPU + ".guest", owned["guest"], wall, wall, "against wall time")
    elif phase in ("user", "system"):
        off("%s.%s" % (OWNED_CPU, phase), owned[phase], wall - interrupts(OWNED_CPU), wall,
            less_interrupts)


def point_5(point, host, _everyone):
    reference = 0.0
    if host.has("cputime-boot"):
        left = host("cputime-boot")
        for record in left.of("cputime"):
            cputime(point, left, record, 0.0)
        reference = point.figures["boot.cpu0.idle_off_percent"]
    left = host("cputime")
    for record in left.of("cputime"):
        cputime(point, left, record, reference)


def point_6(point, host, _everyone):
    counts = {kernel: {r["what"]: r for r in host("count-" + kernel).of("count")}
              for kernel in ("stock", "patched")}
    for what, patched in counts["patched"].items():
        stock = counts["stock"][what]
        for name in ("n", "min", "median", "mode", "often", "mean"):
            point.figure("%s.stock.%s" % (what, name), stock[name])
            point.figure("%s.patched.%s" % (what, name), patched[name])
        point.check(what + ".more_percent",
                    round(100 * (patched["mean"] - stock["mean"]) / stock["mean"], 3), "<=",
                    INSTRUCTIONS_MORE, "the mean of the middle half, of the patched kernel "
                    "against the unpatched")


POINTS = {1: point_1, 2: point_2, 3: point_3, 4: point_4, 5: point_5, 6: point_6}


class Hosts:
    """The hosts of a point, by name."""

    def __init__(self, point, directory):
        self.point = point
        self.directory = directory

    def has(self, name):
        return os.path.isdir(os.path.join(self.directory, name))

    def __call__(self, name):
        return Host(self.point, os.path.join(self.directory, name))


def judge(directory, points, flavour, broadcast, failures, output):
    """DIRECTORY has one of each host.  FAILURES are {"point", "text"}: a host went down, or
    a helper gave up."""
    everyone = kicks.functions_of(broadcast)
    told = collections.defaultdict(list)
    try:
        for record in records.read(failures):
            told[record["point"]].append(record["text"])
    except records.UNREADABLE as error:
        told = collections.defaultdict(lambda text=str(error): [text])
    judged = []
    for number in points:
        point = Point(number)
        judged.append(point)
        # What was measured before it failed tells why.
        try:
            POINTS[number](point, Hosts(point, directory), everyone)
        except records.UNREADABLE as error:
            point.failure = point.failure or "%s: %s" % (type(error).__name__, error)
        point.failure = "; ".join(told[number]) or point.failure
    good = all(point.good() for point in judged)
    consoles = (os.path.join(directory, name, "console.log")
                for name in sorted(os.listdir(directory)))
    kernel = next((k for k in map(records.release_of, consoles) if k != "unknown"), "unknown")
    records.save(output, {"flavour": flavour, "kernel": kernel,
                          "points": {str(p.number): p.json() for p in judged}, "pass": good})
    return [line for point in judged for line in point.lines()], good
