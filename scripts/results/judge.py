# SPDX-License-Identifier: GPL-2.0
"""What became of a plan in an emulated host, as results.

In the host's directory are

  plan.jsonl     what was planned (lists.py)
  records.jsonl  what scripts/test/host/run-plan.sh says:
                 {"test", "status", "seconds", "timeout", "tap"} of each test, in order; timeout
                 is whether its time ran out, tap the file with what it printed
                 {"step", "status"} of loading and unloading modules
                 {"end": true}
  tap/           those files
  output.log     what it printed: "UPTIME NAME" when each test began
  verdict        the last line is scripts/rig/run.sh's: PASS, or what is wrong with the host
"""

import collections
import json
import os

from . import ktap, records
from .tests import Result, dump

DOWN = "the host went down: "

# The exit status is None of what did not run to its end.
Judged = collections.namedtuple("Judged", Result._fields + ("status",))


def records_of(path):
    """The records that a host has left; a crash may have cut off the last."""
    found = []
    for line in records.lines_of(path):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            found.append(record)
    return found


class Host:
    """What one host has left."""

    def __init__(self, directory, parser):
        self.directory = directory
        self.parser = parser
        self.plan = records.read(self.path("plan.jsonl"))
        found = records_of(self.path("records.jsonl"))
        self.tests = [record for record in found if "test" in record]
        self.steps = [record for record in found if "step" in record]
        self.ended = any(record.get("end") for record in found)
        self.output = records.lines_of(self.path("output.log"))
        self.verdict = (records.lines_of(self.path("verdict")) or ["FAIL: no verdict"])[-1]

    def path(self, name):
        return os.path.join(self.directory, name)

    def went_down(self):
        return ("%s; during: %s" % (self.verdict, "; ".join(self.output[-2:])))[:ktap.LONGEST]

    def began(self, index):
        """Whether the host came to a test, the same ones before it counted."""
        name = self.plan[index]["test"]
        starts = [line for line in self.output if line.partition(" ")[2] == name]
        return len(starts) >= sum(test["test"] == name for test in self.plan[:index + 1])

    def running(self):
        """The test during which the host went down, if there is one."""
        after = range(len(self.tests), len(self.plan))
        return max(filter(self.began, after), default=None) if not self.ended else None

    def test(self, index):
        """The result of the test with this number in the plan."""
        planned = self.plan[index]
        if index < len(self.tests):
            record = self.tests[index]
            if record["test"] != planned["test"]:
                reason = "its record is of " + record["test"]
                return Judged("fail", planned["test"], 0, reason, None)
            result, reason = ktap.judge_file(self.parser, planned, record["status"],
                                             record["timeout"], self.path(record["tap"]))
            return Judged(result, planned["test"], record["seconds"], reason, record["status"])
        reason = "left no record" if self.began(index) else "did not run"
        if index == self.running():
            reason = DOWN + self.went_down()
        return Judged("fail", planned["test"], 0, reason, None)

    def results(self):
        """Those of the plan in its order, then what went wrong besides."""
        results = [self.test(index) for index in range(len(self.plan))]
        more = [Judged("fail", step["step"], 0, "status %d" % step["status"], step["status"])
                for step in self.steps if step["status"]]
        if self.verdict != "PASS" or not self.ended:
            # A test that names it says the same.
            if self.running() is None:
                more.append(Judged("fail", "host", 0, self.went_down(), None))
        return results + more


def control(unpatched, patched):
    """Compare what the control's tests did on the two kernels.

    A test that ends the same way on both passes, also when it fails on both; one that skips
    on both says nothing and is a skip.
    """
    def told(judged):
        if judged.status is None:
            return judged.reason
        return ("%s (status %d) %s" % (judged.result, judged.status, judged.reason)).rstrip()

    was, now = unpatched.results(), patched.results()
    planned = len(unpatched.plan)
    for before, after in zip(was[:planned], now[:planned]):
        name = "control/" + before.name
        if None in (before.status, after.status) or (
                (before.name, before.result, before.status) !=
                (after.name, after.result, after.status)):
            yield Result("fail", name, after.seconds, "unpatched: %s; patched: %s" % (
                told(before), told(after)))
        elif after.result in ("pass", "skip"):
            yield Result(after.result, name, after.seconds, after.reason)
        else:
            yield Result("pass", name, after.seconds, "the same on both: " + after.reason)
    for kernel, more in (("unpatched", was[planned:]), ("patched", now[planned:])):
        for judged in more:
            yield Result("fail", "control/%s-%s" % (judged.name, kernel), 0, judged.reason)


def do_judge(tree, directory):
    for judged in Host(directory, ktap.load(tree)).results():
        print(dump(Result(*judged[:-1])))
    return False


def do_control(tree, unpatched, patched):
    parser = ktap.load(tree)
    for result in control(Host(unpatched, parser), Host(patched, parser)):
        print(dump(result))
    return False
