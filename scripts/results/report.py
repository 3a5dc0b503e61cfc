# SPDX-License-Identifier: GPL-2.0
"""One HTML page of whatever reports there are: "make report".

The page has no script but one line that says that it is whole, loads nothing, and works from
a file. Each figure has its number, the command that repeats it, and the number of values that
it shows, which page.py compares with what a browser made of it.
"""

import collections
import datetime
import html
import io
import os
import subprocess

import matplotlib

matplotlib.use("svg")
# pylint: disable=wrong-import-position
from matplotlib import pyplot  # noqa: E402  after the choice of what draws

from . import exits, records, tests  # noqa: E402

STOCK, EXCLUSIVE, BARE, BAD = "#9aa5b1", "#2e7d32", "#1565c0", "#b71c1c"
STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
         "svg.fonttype": "none", "svg.hashsalt": "kvm-exclusive", "axes.titlesize": 10,
         "figure.constrained_layout.use": True}

CSS = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em;
       color: #1b2733; background: #fff }
h1 { margin-bottom: 0 } h2 { margin-top: 2.2em; border-bottom: 1px solid #d5dbe1 }
table { border-collapse: collapse; margin: 1em 0; font-size: 13px }
th, td { padding: .15em .7em; text-align: right; border-bottom: 1px solid #eceff2 }
th:first-child, td:first-child { text-align: left }
figure { margin: 1.5em 0 } figure svg { max-width: 100%; height: auto }
figcaption { color: #4a5763; font-size: 13px } code { background: #f2f4f6; padding: 0 .25em }
.bad { color: #b71c1c; font-weight: bold } .good { color: #2e7d32 }
.note { background: #fff8e1; border-left: 4px solid #f9a825; padding: .5em 1em }
nav a { margin-right: 1em }
"""


def text(value):
    return html.escape(str(value))


def command(line):
    return "<code>%s</code>" % text(line)


def table(head, rows):
    cells = "".join("<th>%s</th>" % text(cell) for cell in head)
    lines = ["<table><thead><tr>%s</tr></thead><tbody>" % cells]
    for row in rows:
        lines.append("<tr>%s</tr>" % "".join("<td>%s</td>" % text(cell) for cell in row))
    return "".join(lines) + "</tbody></table>"


class Page:
    """Sections in their order, and figures that are numbered through."""

    def __init__(self):
        self.sections = []
        self.figures = 0

    def section(self, name, title, *parts):
        self.sections.append((name, title, [part for part in parts if part]))

    def figure(self, drawn, values, caption, repeat):
        """What pyplot has drawn, as an SVG within the page."""
        self.figures += 1
        out = io.StringIO()
        drawn.savefig(out, format="svg", metadata={"Date": None})
        pyplot.close(drawn)
        # What comes before is for a file of its own.  Names are the figure's own, too.
        svg = out.getvalue()
        svg = svg[svg.index("<svg"):]
        return ("<figure id=\"figure-%d\" data-values=\"%d\">%s<figcaption>"
                "Figure %d: %s Repeat it with %s.</figcaption></figure>" % (
                    self.figures, values, svg, self.figures, text(caption), command(repeat)))

    def html(self, head):
        nav = "".join("<a href=\"#%s\">%s</a>" % (name, text(title))
                      for name, title, _ in self.sections)
        body = "".join("<section id=\"%s\"><h2>%s</h2>%s</section>" % (
            name, text(title), "".join(parts)) for name, title, parts in self.sections)
        return ("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">"
                "<title>kvm-exclusive: report</title><style>%s</style></head><body>"
                "<h1>kvm-exclusive</h1>%s<nav>%s</nav>%s"
                "<script>document.documentElement.dataset.figures = "
                "document.querySelectorAll('figure svg').length;</script></body></html>\n" % (
                    CSS, head, nav, body))


def tag(bars):
    """Number the values that are shown, so that they are found in the page."""
    for artist in bars:
        tag.last += 1
        artist.set_gid("value_%d" % tag.last)
    return len(bars)


tag.last = 0
matplotlib.rcParams.update(STYLE)


def axes(height, width=8.6):
    return pyplot.subplots(figsize=(width, height))


def bars_by_mode(names, modes, value_of, xlabel, log=True):
    """Horizontal bars, one of each mode for each name. The figure, and how many values."""
    figure, plot = axes(0.7 + 0.34 * len(names))
    thick = 0.8 / len(modes)
    shown = 0
    for at, (mode, color) in enumerate(modes):
        values = [value_of(name, mode) for name in names]
        places = [i + (at - (len(modes) - 1) / 2) * thick for i in range(len(names))]
        # A scale of powers has no place for none, and none for less.
        drawn = plot.barh(places, [max(v, 0.6) if log else v for v in values], thick, color=color,
                          label=mode)
        shown += tag(drawn)
        plot.bar_label(drawn, ["%d" % v if v == int(v) else "%g" % v for v in values], padding=3,
                       fontsize=8)
    if log:
        plot.set_xscale("log")
        plot.set_xlim(left=0.5)
    plot.set_yticks(range(len(names)), names)
    plot.invert_yaxis()
    plot.set_xlabel(xlabel)
    if len(modes) > 1:
        legend(plot)
    return figure, shown


def legend(plot):
    """Above the plot, where no bar is."""
    plot.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncol=3, borderpad=0)


def demo_command(name):
    return {"demo-amd": "make demo", "demo-intel": "make demo PLATFORM=intel"}.get(
        name, "make demo DEVICES=1")


def add_exits(page, directory):
    for name in ("demo-amd", "demo-intel", "devices-vtd", "devices-amdvi"):
        document = records.load(os.path.join(directory, name + ".json"))
        if not document:
            continue
        parts = ["<p>%s host, Linux %s.</p>" % (text(document["platform"]),
                                                text(document["kernel"]))]
        for load in document["workloads"]:
            parts += exits_of(page, load, demo_command(name))
        page.section(name, {"demo-amd": "VM exits, AMD", "demo-intel": "VM exits, Intel",
                            "devices-vtd": "Assigned devices, VT-d"}.get(
                                name, "Assigned devices, AMD-Vi"), *parts)


def exits_of(page, load, repeat):
    modes = [(mode, color) for mode, color in (("stock", STOCK), ("exclusive", EXCLUSIVE))
             if mode in load]
    reasons = exits.largest_first(*(load[mode]["by_reason"] for mode, _ in modes))
    yield "<h3>%s, %d requests</h3>" % (text(load["name"]), load["requests"])
    if load["failed"]:
        yield "<p class=\"bad\">%d requests failed.</p>" % load["failed"]
    if not reasons:
        yield "<p class=\"bad\">No exits were counted.</p>"
        return
    drawn, shown = bars_by_mode(reasons, modes, lambda r, m: load[m]["by_reason"].get(r, 0),
                                "VM exits")
    yield page.figure(drawn, shown, "VM exits by reason during %s." % load["name"], repeat)
    rows = [["total"] + [load[mode]["total"] for mode, _ in modes],
            ["not seen by perf"] + [load[mode]["unseen_by_perf"] for mode, _ in modes]]
    if "device_irqs" in load[modes[0][0]]:
        rows.append(["devices' interrupts in the guest"] +
                    [load[mode]["device_irqs"] for mode, _ in modes])
        rows.append(["in the host"] + [load[mode]["host_irqs"] for mode, _ in modes])
    yield table([""] + [mode for mode, _ in modes], rows)
    if "exclusive" in load:
        left = [(r, n, exits.why(r)) for r, n in load["exclusive"]["by_reason"].items() if n]
        yield table(("left in exclusive mode", "exits", "why"), left)
        kicks = {cause: n for cause, n in load["exclusive"]["kicks"].items() if n}
        if kicks:
            drawn, shown = bars_by_mode(list(kicks), [("exclusive", EXCLUSIVE)],
                                        lambda cause, _: kicks[cause], "kicks", log=False)
            yield page.figure(drawn, shown, "Kicks of the owned CPUs by cause meanwhile. Those "
                              "that find the CPU in the host cost no exit.", repeat)


def add_latency(page, directory):
    for platform in ("intel", "amd-bochs"):
        document = records.load(os.path.join(directory, "latency-%s.json" % platform))
        if not document:
            continue
        if not document["rows"]:
            page.section("latency-" + platform, "Latency, %s" % platform, *(
                "<p class=\"bad\">%s</p>" % text(line) for line in document["failures"]))
            continue
        modes = [("stock", STOCK), ("exclusive", EXCLUSIVE), ("bare", BARE)]
        rows = document["rows"]
        drawn, shown = bars_by_mode([row["name"] for row in rows], modes, lambda name, mode: next(
            row[mode] or 0 for row in rows if row["name"] == name), document["unit"])
        repeat = "make latency PLATFORM=" + platform
        parts = [page.figure(drawn, shown, "Medians of %d samples, in two runs." %
                             document["samples"], repeat),
                 table(("", "stock", "exclusive", "bare", "bound", ""),
                       [[row["name"]] + ["-" if row[mode] is None else "%g" % row[mode]
                                         for mode, _ in modes] +
                        [row["bound"] or "-", {True: "met", False: "NOT MET"}.get(row["pass"], "")]
                        for row in rows]),
                 table(("instructions that the host adds to an IPI", "measured", "bound"),
                       [(ipi["name"], ipi["measured"], ipi["bound"] or "-")
                        for ipi in document["host_instructions_per_ipi"]])]
        parts += ["<p class=\"bad\">%s</p>" % text(line) for line in document["failures"]]
        page.section("latency-" + platform, "Latency, %s" % platform, *parts)


def add_quiet(page, directory):
    for name, repeat in (("quiet", "make quiet"), ("quiet-debug", "make quiet-debug")):
        document = records.load(os.path.join(directory, name + ".json"))
        if not document:
            continue
        parts = ["<p>Linux %s.</p>" % text(document["kernel"])]
        for number, point in document["points"].items():
            parts.append("<h3>%s. %s: <span class=\"%s\">%s</span></h3>" % (
                text(number), text(point["name"]), "good" if point["pass"] else "bad",
                "passed" if point["pass"] else "failed"))
            if "failure" in point:
                parts.append("<p class=\"bad\">%s</p>" % text(point["failure"]))
            parts.append(table(("check", "value", "", "bound", ""), [
                (c["what"], c["value"], c["op"], c["bound"], "" if c["pass"] else "FAILED")
                for c in point["checks"]]))
            if point["kicks"]:
                parts.append(kicks_of(page, point, repeat))
        page.section(name, "How quiet an owned CPU is" + (
            ", debug kernel" if name != "quiet" else ""), *parts)


def kicks_of(page, point, repeat):
    by_site = collections.Counter()
    for kick in point["kicks"]:
        by_site["%s: %s" % (kick["class"], kick["site"])] += kick["count"]
    names = [name for name, _ in by_site.most_common(15)]
    drawn, shown = bars_by_mode(names, [("kicks", EXCLUSIVE)], lambda n, _: by_site[n], "kicks",
                                log=False)
    return page.figure(drawn, shown, "What kicked owned CPUs: the class and the call site of the "
                       "most frequent.", repeat)


def add_host(page, directory):
    document = records.load(os.path.join(directory, "host.json"))
    if not document:
        return
    parts = [table(("", ""), [
        ("claims", document["claims"]), ("refused", len(document["refused"])),
        ("the longest claim, ms", document["longest_claim_ms"]),
        ("I/O requests", document["ios"]), ("I/O errors", document["io_errors"]),
        ("the longest request, ms", document["longest_io_ms"]),
        ("host interrupts on owned CPUs", document["host_interrupts_on_owned"])])]
    claims = records.read(os.path.join(directory, "test-host", "disks", "tap", "churn.jsonl"))
    took = [claim["claim_us"] / 1000 for claim in claims if not claim["errno"]]
    if took:
        figure, plot = axes(2.4)
        _, _, drawn = plot.hist(took, bins=40, color=EXCLUSIVE)
        plot.set_xlabel("ms")
        plot.set_ylabel("claims")
        parts.append(page.figure(figure, tag(drawn), "How long %d claims took while fio and "
                                 "iperf3 ran." % len(took), "make host"))
    parts.append(table(("rows of the reviews", "test", ""), [
        (f["row"], f["test"], "passed" if f["pass"] else "FAILED") for f in document["faults"]]))
    page.section("host", "A host that does real work", *parts)


def add_tests(page, directory):
    for name, repeat in (("tests", "make test"), ("tests-full", "make test-full")):
        runs = tests.runs_of(tests.records_in(os.path.join(directory, name + ".results.jsonl")))
        if not runs:
            continue
        counts = {run.name: tests.count(run.results()) for run in runs}
        names = list(counts)
        figure, plot = axes(0.8 + 0.32 * len(names))
        left = [0] * len(names)
        shown = 0
        for i, (what, color) in enumerate((("passed", EXCLUSIVE), ("failed", BAD),
                                           ("skipped", STOCK))):
            values = [counts[n][i] for n in names]
            drawn = plot.barh(range(len(names)), values, left=left, color=color, label=what)
            shown += tag(drawn)
            left = [a + b for a, b in zip(left, values)]
        plot.set_yticks(range(len(names)), names)
        plot.invert_yaxis()
        plot.set_xlabel("tests")
        legend(plot)
        failed = [(run.name, r.name, r.reason) for run in runs for r in run.results()
                  if tests.verdict(r) == "fail"]
        page.section(name, "Tests: " + repeat, page.figure(
            figure, shown, "Results by run: %s." % tests.total(
                [sum(of[i] for of in counts.values()) for i in range(3)]), repeat),
            table(("run", "passed", "failed", "skipped", "real time"),
                  [(run.name, *counts[run.name], tests.minutes(run.seconds)) for run in runs]),
            table(("run", "what failed", ""), failed) if failed else "")


def add_silicon(page, directory):
    document = records.load(os.path.join(directory, "silicon.json"))
    if not document:
        return
    injected = document["injected"]
    parts = ["<p>Seeds %s on %s. %d IPIs and %d expiries were late, %d stops, %d NMIs that nobody "
             "sent; %d interrupts lost, %d doubled. %d tests passed, %d failed.</p>" % (
                 text(" ".join(map(str, document["seeds"]))),
                 text(" and ".join(document["platforms"])), injected["late_ipis"],
                 injected["late_timers"], injected["smis"], injected["spurious_nmis"],
                 document["lost"], document["doubled"], document["tests"]["passed"],
                 document["tests"]["failed"])]
    ranges = [r for r in document["ranges"] if r["instructions"]]
    if ranges:
        names = ["%s: %s" % (r["platform"], r["symbol"]) for r in ranges]
        drawn, shown = bars_by_mode(
            list(range(len(ranges))), [("boundaries that ran", STOCK), ("took an NMI", EXCLUSIVE)],
            lambda i, what: ranges[i]["instructions" if what != "took an NMI" else "nmi"],
            "boundaries between instructions", log=False)
        drawn.axes[0].set_yticks(range(len(names)), names)
        parts.append(page.figure(drawn, shown, "What the adversary has interrupted. Where no NMI "
                                 "can come (GIF clear, shadows) none did.", "make silicon"))
    mutants = records.load(os.path.join(directory, "silicon-mutants.json"))
    for mutant in (mutants or {}).get("mutants", []):
        parts.append("<p>Planted bug %s: %s.</p>" % (
            text(mutant.get("name", mutant.get("mutant"))),
            "found with seed %s" % text(mutant["seed"]) if mutant.get("seed") else
            "<span class=\"bad\">not found</span>"))
    page.section("silicon", "Worse than silicon", *parts)


def head_of(top, directory):
    commit = subprocess.run(["git", "-C", top, "describe", "--always", "--dirty"],
                            capture_output=True, text=True, check=False).stdout.strip()
    found = sorted((os.path.getmtime(path), name) for name in os.listdir(directory)
                   for path in [os.path.join(directory, name)]
                   if name.endswith((".json", ".results.jsonl")) and os.path.isfile(path))
    rows = [(name, datetime.datetime.fromtimestamp(when).strftime("%Y-%m-%d %H:%M"))
            for when, name in found]
    return ("<p>Commit %s.</p><p class=\"note\">Everything here was measured on emulated hosts: "
            "AMD in QEMU's TCG, Intel and latencies in Bochs. It says which events exit and how "
            "often, not how long anything takes on silicon.</p>%s" % (
                text(commit or "unknown"), table(("report", "of"), rows)))


def build(top, directory, output):
    """Write the page; the number of its figures, and of its sections."""
    tag.last = 0
    page = Page()
    for add in (add_exits, add_latency, add_quiet, add_host, add_silicon, add_tests):
        add(page, directory)
    if not page.sections:
        raise ValueError("no reports in %s; \"make demo\" and \"make test\" leave some" % directory)
    with open(output + ".new", "w", encoding="utf-8") as file:
        file.write(page.html(head_of(top, directory)))
    os.replace(output + ".new", output)
    return page.figures, len(page.sections)
