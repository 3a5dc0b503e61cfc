# SPDX-License-Identifier: GPL-2.0
"""Results of tests: one run, several side by side, and what is remembered of the parts.

Documentation/testing.md, "Results", has the form of the files.
"""

import collections
import datetime
import json
import os
import sys

from . import records

RESULTS = ("pass", "fail", "skip", "required-skip")

Result = collections.namedtuple("Result", "result name seconds reason")


def result_of(record):
    """The result of a record; one that is none has failed."""
    try:
        result = Result(*(record[field] for field in Result._fields))
    except (KeyError, TypeError):
        result = Result("", "", 0, "")
    if result.result not in RESULTS or not isinstance(result.seconds, int) or not result.name:
        return Result("fail", "unreadable", 0, json.dumps(record))
    return result


def record_of(line):
    """The record of a line; a line that is none is kept, so that it fails."""
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    return record if isinstance(record, dict) else {"unreadable": line}


def records_in(path):
    return [record_of(line) for line in records.lines_of(path)]


def results_of(found):
    return [result_of(record) for record in found]


def dump(result):
    return json.dumps(result._asdict())


def verdict(result):
    """What counts: a required test that skips has failed."""
    return result.result if result.result in ("pass", "skip") else "fail"


def count(results):
    """How many passed, failed and were skipped."""
    counts = collections.Counter(verdict(r) for r in results)
    return counts["pass"], counts["fail"], counts["skip"]


def total(counts):
    return "%d passed, %d failed, %d skipped" % tuple(counts)


def brief(counts):
    """The same of a part: no line that is taken for that of the whole."""
    return "%d pass, %d fail, %d skip" % tuple(counts)


def good(counts):
    return counts[0] > 0 and counts[1] == 0


class Run:
    """A column of the table: the results of one run, its real time and its status."""

    def __init__(self, name):
        self.name = name
        self.records = []
        self.seconds = 0
        self.status = None

    def results(self):
        """The results, and a failure where the run failed and none of them says so."""
        results = results_of(self.records)
        if self.status == 0 and good(count(results)):
            return results
        if count(results)[1] == 0:
            why = {None: "did not end", 0: "nothing passed"}.get(self.status,
                                                                 "status %s" % self.status)
            results.append(Result("fail", "run", 0, why))
        return results

    def json(self):
        results = self.results()
        counts = dict(zip(("passed", "failed", "skipped"), count(results)))
        return {"seconds": self.seconds, **counts,
                "failures": [r._asdict() for r in results if verdict(r) == "fail"]}


def runs_of(found):
    """Runs from results that say which run they are of; one without a result ends it."""
    runs = {}
    for record in found:
        name = str(record.get("run", "unreadable"))
        run = runs.setdefault(name, Run(name))
        if "result" not in record and {"run", "seconds", "status"} <= set(record):
            run.seconds, run.status = record["seconds"], record["status"]
        else:
            run.records.append(record)
    return list(runs.values())


def minutes(seconds):
    return "%d:%02d" % divmod(seconds, 60)


def row_of(name):
    """The row that a test is in: of whatever arguments, and the control is one."""
    words = name.split()
    if words[0].startswith("control/"):
        return "control"
    return " ".join(words[:2 if words[0] == "kunit" else 1])


def cell(results):
    """What the table says of the results of one test in one run."""
    verdicts = {verdict(r) for r in results}
    if "fail" in verdicts:
        return "FAIL"
    if "pass" in verdicts:
        return "%d s" % sum(r.seconds for r in results)
    return "skip" if results else ""


def table(runs, times):
    """Lines of the table, and the counts of all.

    A test's seconds are the emulated host's; those of a run, and of what was built for it,
    are real.  A test that runs more than once in a run is one row.
    """
    rows = {}
    counts = []
    failed = []
    for run in runs:
        results = run.results()
        counts.append(count(results))
        for result in results:
            rows.setdefault(row_of(result.name), {}).setdefault(run.name, []).append(result)
            if verdict(result) == "fail":
                failed.append("%s: %s: %s" % (run.name, result.name,
                                              result.reason or result.result))

    def line(title, cells):
        return "%-34s" % title + "".join(
            " %*s" % (max(8, len(run.name)), text) for run, text in zip(runs, cells))

    lines = [line("", [run.name for run in runs])]
    for title, of in rows.items():
        lines.append(line(title, [cell(of.get(run.name, [])) for run in runs]))
    for i, title in enumerate(("passed", "failed", "skipped")):
        lines.append(line(title, [of[i] for of in counts]))
    lines.append(line("real time", [minutes(run.seconds) for run in runs]))
    if failed:
        lines += ["", "What failed:"] + failed
    last = {}
    for words in map(str.split, times):
        if len(words) == 2 and words[1].isdecimal():
            last[words[0]] = int(words[1])
    if last:
        lines += ["", "What was built for it, in real time:"]
        lines += ["%-34s %8s" % (step, minutes(s)) for step, s in last.items()]
    return lines, [sum(of[i] for of in counts) for i in range(3)]


def record_path(directory, part):
    return os.path.join(directory, part + ".json")


def read_record(directory, part):
    record = records.load(record_path(directory, part))
    good_one = (isinstance(record, dict) and record.get("part") == part and
                {"date", "inputs", "results"} <= set(record) and
                all(isinstance(result, dict) for result in record["results"]))
    return record if good_one else None


def write_record(directory, part, inputs, found, date):
    records.save(record_path(directory, part),
                 {"part": part, "date": date, "inputs": inputs, "results": found}, indent=1)


def inputs_of(lines):
    """What went into a part: "NAME HASH" lines."""
    return dict(line.split(None, 1) for line in lines)


def record_run(record):
    """The run of a part that is remembered."""
    runs = runs_of(record["results"])
    return runs[0] if len(runs) == 1 else Run(record["part"])


def state(record, inputs):
    """The state of a part, and more about it."""
    if record is None:
        return "never", ""
    changed = sorted(name for name in set(inputs) | set(record["inputs"])
                     if inputs.get(name) != record["inputs"].get(name))
    # Judged anew: what it said is remembered, not what was thought of it.
    counts = count(record_run(record).results())
    if not good(counts):
        return "failed", "%s: %s" % (record["date"], brief(counts))
    if changed or not inputs:
        return "stale", "passed %s; changed: %s" % (record["date"], ", ".join(changed))
    return "passed", record["date"]


def do_summary(results, name=None):
    results = results_of(records_in(results))
    for result in results:
        if result.result != "pass":
            print(("%s %s %d %s" % result).rstrip())
    counts = count(results)
    # The one line that says how several runs ended is the table's.
    print(total(counts) if name is None else "%s: %s" % (name, brief(counts)))
    return not good(counts)


def do_result(result, name, reason=""):
    if result not in RESULTS:
        raise ValueError("no result: %s" % result)
    print(dump(Result(result, name, 0, reason)))
    return False


def do_run(part, seconds, status, results):
    for record in records_in(results):
        print(json.dumps({"run": part, **record}))
    print(json.dumps({"run": part, "seconds": int(seconds), "status": int(status)}))
    return False


def do_table(results, times=None):
    lines, counts = table(runs_of(records_in(results)),
                          records.lines_of(times) if times else [])
    print("\n".join(lines + ["", total(counts)]))
    return not good(counts)


def do_record(directory, part, inputs, results):
    date = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    write_record(directory, part, inputs_of(records.lines_of(inputs)),
                 records_in(results), date)
    return False


def do_show(directory, part):
    record = read_record(directory, part)
    for result in record["results"] if record else []:
        print(json.dumps(result))
    return record is None


def states_of(directory, inputs):
    for words in (line.split() for line in sys.stdin if line.strip()):
        record = read_record(directory, words[0])
        now = inputs_of(records.lines_of(os.path.join(inputs, words[0])))
        yield (words, record, *state(record, now))


def do_states(directory, inputs):
    for words, _, text, more in states_of(directory, inputs):
        print(("%s %s %s" % (words[0], text, more)).rstrip())
    return False


def do_parts(directory, inputs):
    for words, record, text, more in states_of(directory, inputs):
        took = "about %s:00" % words[1]
        if record and record_run(record).seconds:
            took = minutes(record_run(record).seconds)
        print(("%-20s %12s  %-6s  %s" % (words[0], took, text, more)).rstrip())
    return False


def do_log(log, results, *more):
    date = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    with open(log, "a", encoding="utf-8") as file:
        for run in runs_of(records_in(results)):
            line = {"part": run.name, "date": date, **run.json(),
                    **{k: int(v) if v.isdecimal() else v
                       for k, v in (arg.split("=", 1) for arg in more)}}
            file.write(json.dumps(line) + "\n")
    return False
