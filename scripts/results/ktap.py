# SPDX-License-Identifier: GPL-2.0
"""Judge one test by its exit status and by what it printed.

It is the kernel tree's own parser of KTAP that reads it, tools/testing/kunit/kunit_parser.py.
What that lacks is here: it loops for ever on a plan behind the results (6.12), takes no case
without a name ("ok 5 # SKIP ..." of kselftest.h), and ends at the planned number of cases.
"""

import functools
import importlib
import os
import re
import sys

from . import records

KSFT_SKIP = 4

CASE = re.compile(r"(\s*)(ok|not ok) ([0-9]+)\b(?: -(?= |$))?(.*)$")
DIRECTIVE = re.compile(r"\s*#\s*((?:SKIP|XFAIL|XPASS|TODO|TIMEOUT|error)\b.*)$", re.I)
SKIPPED = re.compile(r"\s*(?:not )?ok [0-9]+\b.*# SKIP", re.I)
FAILED = re.compile(r" *not ok|Bail out!")
# What kselftest_harness.h says of each case, besides what was wrong with it; the first of it.
BEGINS = re.compile(r"#  +RUN ")
HARNESS = re.compile(r"#  +(RUN|OK|FAIL) |# \S+: Test (failed|terminated by assertion)$")
NONE_PLANNED = re.compile(r"1\.\.0 # SKIP")
# Of a required test, what may skip on another kernel than the rig's.
ELSEWHERE = "not in this kernel"
RIG = ("exclusive", "debug", "stock")
LONGEST = 400


class Complaints:
    """Stands in for what the parser prints with: its errors are kept, nothing is printed."""

    def __init__(self):
        self.errors = []

    def print_with_timestamp(self, message):
        if message.startswith("[ERROR] "):
            self.errors.append(message.partition(": ")[2])

    def red(self, text):
        return text

    green = yellow = red

    def color_len(self):
        return 0


def bounded(stream):
    """The parser's stream of lines, but that nothing looks at one line for ever."""

    class Lines(stream):
        looks = 0

        def peek(self):
            self.looks += 1
            if self.looks > 1000:
                raise ValueError("a plan behind the results, or in their middle")
            return super().peek()

        def pop(self):
            self.looks = 0
            return super().pop()

    return Lines


@functools.lru_cache
def load(tree):
    """The parser of a kernel tree."""
    directory = os.path.join(tree, "tools", "testing", "kunit")
    sys.path.insert(0, directory)
    try:
        parser = importlib.import_module("kunit_parser")
    except ImportError as error:
        raise ValueError("no parser of KTAP in %s: %s" % (directory, error)) from error
    finally:
        sys.path.remove(directory)
    parser.LineStream = bounded(parser.LineStream)
    return parser


def named(line):
    """A case that the parser takes: with a name, and no # but that of a directive."""
    case = CASE.match(line)
    if not case:
        return line
    indent, ok, number, rest = case.groups()
    directive = DIRECTIVE.search(rest)
    name = (rest[:directive.start()] if directive else rest).replace("#", "_").strip()
    return "%s%s %s %s%s" % (indent, ok, number, name or "case",
                             " # " + directive.group(1) if directive else "")


class Output:
    """What a test printed, as the parser has it."""

    def __init__(self, parser, lines):
        complaints = parser.stdout = Complaints()
        stream = parser.extract_tap_lines([named(line) for line in lines])
        self.fault = None
        self.is_tap = bool(stream)
        self.failed, self.skipped = False, []
        if not self.is_tap:
            return
        self.failed = any(FAILED.match(line) for line in lines)
        self.skipped = [line for line in lines if SKIPPED.match(line)]
        try:
            main = parser.parse_test(stream, 0, [], False)
        except ValueError as error:
            self.fault = str(error)
            return
        self.failed = self.failed or main.counts.failed > 0
        left = sum(bool(CASE.match(line)) for line in stream)
        self.fault = self.look(main, left) or next(iter(complaints.errors), None)

    def look(self, test, left=0):
        """What is wrong with a plan, that of a suite within it included."""
        where = " in " + test.name if test.name != "main" else ""
        if test.expected_count is None:
            return "no plan" + where
        # What is missing has no name.
        ran = sum(bool(case.name) for case in test.subtests)
        if ran + left != test.expected_count:
            return "%d of %d planned cases%s" % (ran + left, test.expected_count, where)
        return next(filter(None, map(self.look, test.subtests)), None)


def first_failed(lines):
    """The first case that failed, and what it said before that, but for the harness' own.

    Where no line says that a case begins, two lines are taken for its own; else as many of
    the last as there is room for.
    """
    at = next((i for i, line in enumerate(lines) if FAILED.match(line)), len(lines) - 1)
    begins = max((i for i, line in enumerate(lines[:at]) if BEGINS.match(line)), default=None)
    said = [line for line in lines[begins or 0:at] if not HARNESS.match(line)]
    if begins is None:
        said = said[-2:]
    while len(said) > 2 and len(";".join(said + [lines[at]])) > LONGEST:
        del said[0]
    return ";".join(said + lines[at:at + 1])[:LONGEST]


def why_skipped(lines):
    return next((line.strip() for line in lines if "skip" in line.lower()), "")


def outcome(planned, status, late, output, lines):
    """Result and reason, whether or not the test is required."""
    last = (lines[-1] if lines else "no output")[:LONGEST]
    if late:
        return "fail", "no end within %d s" % planned["seconds"]
    if output.failed:
        but = ", but a case failed" if status in (0, KSFT_SKIP) else ""
        return "fail", "status %d%s: %s" % (status, but, first_failed(lines))
    if status == KSFT_SKIP or (status == 0 and any(map(NONE_PLANNED.match, lines))):
        return "skip", why_skipped(lines)
    if status == 0 and not output.is_tap:
        return ("fail", "status 0, but no TAP: %s" % last) if planned["tap"] else ("pass", "")
    if status == 0:
        return ("fail", "status 0, but %s: %s" % (output.fault, last)) if output.fault else (
            "pass", "")
    if not output.is_tap:
        return "fail", "status %d: %s" % (status, last)
    return "fail", "status %d, %s: %s" % (
        status, output.fault or "though all planned cases passed", last)


def judge(parser, planned, status, late, lines):
    """Result and reason of a test; the lines are what it printed."""
    output = Output(parser, lines)
    result, reason = outcome(planned, status, late, output, lines)
    if not planned["required"]:
        return result, reason
    if result == "pass":
        # What is required is all of it: one case that skips is a skip.
        for line in output.skipped:
            if planned["flavour"] in RIG or ELSEWHERE not in line:
                return "required-skip", line.strip()
    return "required-skip" if result == "skip" else result, reason


def judge_file(parser, planned, status, late, path):
    return judge(parser, planned, status, late, records.lines_of(path))
