# SPDX-License-Identifier: GPL-2.0
"""Write reports into Documentation/results.md: "make results".

A section stands between the lines "<!-- NAME -->" and "<!-- /NAME -->"; that of a report which
is there is written anew, the others stay as they are.
"""

import os
import re

from . import exits, records


def table(head, rows):
    lines = ["| " + " | ".join(map(str, head)) + " |", "| --- " * len(head) + "|"]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def percent(part, whole):
    return "%.2f%%" % (100 * part / whole) if whole else "-"


def exits_section(document):
    """A table of each load, the largest reason first, and why what is left is left."""
    yield "Linux %s." % document["kernel"]
    for load in document["workloads"]:
        stock, exclusive = load["stock"], load["exclusive"]
        left = exclusive["total"] + exclusive["unseen_by_perf"]
        yield ""
        yield "%s, %d requests, %d failed: %d exits, and %d in exclusive mode (%s)." % (
            load["name"], load["requests"], load["failed"], stock["total"], left,
            percent(left, stock["total"]))
        yield ""
        reasons = exits.largest_first(stock["by_reason"], exclusive["by_reason"])
        rows = [(r, stock["by_reason"].get(r, 0), exclusive["by_reason"].get(r, 0),
                 exits.why(r) if exclusive["by_reason"].get(r) else "") for r in reasons]
        rows.append(("not seen by perf", stock["unseen_by_perf"], exclusive["unseen_by_perf"],
                     "IPIs sent in assembly" if exclusive["unseen_by_perf"] else ""))
        yield from table(("exit reason", "stock", "exclusive", "why it is left"), rows)


def devices_section(document):
    rows = [(load["name"], load["requests"], load["stock"]["device_irqs"],
             load["stock"]["host_irqs"], load["exclusive"]["device_irqs"],
             load["exclusive"]["host_irqs"], load["stock"]["total"], load["exclusive"]["total"])
            for load in document["workloads"]]
    yield from table(("load", "requests", "stock: in the guest", "in the host",
                      "exclusive: in the guest", "in the host", "exits: stock", "exclusive"), rows)


def latency_section(document):
    def number(value):
        return "-" if value is None else "%g" % value

    yield "%s, medians of %d samples, two runs." % (document["unit"], document["samples"])
    yield ""
    yield from table(("", "stock", "exclusive, IPIs by C", "exclusive", "bare machine"), [
        [row["name"]] + [number(row[mode]) for mode in
                         ("stock", "exclusive_c", "exclusive", "bare")]
        for row in document["rows"]])
    yield ""
    yield from table(("instructions that the host adds to an IPI", "measured", "bound"), [
        (ipi["name"], number(ipi["measured"]), ipi["bound"] or "-")
        for ipi in document["host_instructions_per_ipi"]])


def quiet_section(document):
    yield "Linux %s." % document["kernel"]
    for number, point in document["points"].items():
        yield ""
        yield "%s. %s: %s." % (number, point["name"], "passed" if point["pass"] else "FAILED")
        if "failure" in point:
            yield ""
            yield point["failure"]
        yield ""
        yield from table(("check", "value", "", "bound"), [
            ("`%s`" % c["what"], c["value"], c["op"], c["bound"]) for c in point["checks"]
            # How often each stressor has run says nothing here.
            if c["text"] != "times the stressor has run"])


def host_section(document):
    yield from table(("", ""), [
        ("claims and releases", document["claims"]), ("refused", len(document["refused"])),
        ("the longest claim, ms", document["longest_claim_ms"]),
        ("I/O requests, all verified", document["ios"]), ("I/O errors", document["io_errors"]),
        ("the longest request, ms", document["longest_io_ms"]),
        ("host interrupts on owned CPUs", document["host_interrupts_on_owned"])])


SECTIONS = {"demo-amd": exits_section, "demo-intel": exits_section,
            "devices-vtd": devices_section, "devices-amdvi": devices_section,
            "latency-intel": latency_section, "latency-amd-bochs": latency_section,
            "quiet": quiet_section, "quiet-debug": quiet_section, "host": host_section}


def update(path, directory):
    """Write those that are there; their names.  A place for each has to be in the file."""
    text = records.text_of(path)
    written = []
    for name, section in SECTIONS.items():
        document = records.load(os.path.join(directory, name + ".json"))
        # What was measured in one mode alone says nothing here.
        if document and not all({"stock", "exclusive"} <= set(load)
                                for load in document.get("workloads", [])):
            document = None
        place = re.compile(r"(<!-- %s -->\n).*?(<!-- /%s -->\n)" % (name, name), re.S)
        if not place.search(text):
            raise ValueError("%s has no place for %s" % (path, name))
        if not document:
            continue
        lines = "\n".join(section(document))
        text = place.sub(lambda match, lines=lines: "%s\n%s\n\n%s" % (
            match.group(1), lines, match.group(2)), text)
        written.append(name)
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".new", path)
    return written
