#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Tests of results.py."""

import sys
import unittest

sys.dont_write_bytecode = True
import results  # noqa: E402  beside this file


class Lines(unittest.TestCase):
    def parsed(self, line, *expected):
        self.assertEqual(tuple(results.parse(line)), expected)

    def test_fields(self):
        self.parsed("pass ipi_test 3", "pass", "ipi_test", 3, "")
        self.parsed("fail irq_test 12 status 1: not ok 3 lost", "fail", "irq_test", 12,
                    "status 1: not ok 3 lost")

    def test_arguments_are_no_seconds(self):
        self.parsed("pass storm_test 2000 50 1 7", "pass", "storm_test 2000 50 1", 7, "")
        self.parsed("fail kunit kvm_exclusive_ipi 0 not there", "fail",
                    "kunit kvm_exclusive_ipi", 0, "not there")
        self.parsed("pass x_test -n 5 2 the same", "pass", "x_test -n 5", 2, "the same")

    def test_what_cannot_be_read_has_failed(self):
        for line in ("pass", "pass ipi_test", "pass ipi_test x", "passed ipi_test 3", "pas"):
            self.assertEqual(results.parse(line)[:2], ("fail", "unreadable"), line)

    def test_counts(self):
        lines = ["pass a 1", "skip b 0 no", "required-skip c 0 no", "fail d 1", "end", "?"]
        self.assertEqual(results.count(results.results_of(lines)), (1, 3, 1))


class Table(unittest.TestCase):
    def of(self, text, times=()):
        return results.table(results.runs_of(text.strip().splitlines()), times)

    def test_look(self):
        lines, counts = self.of("""
amd-exclusive pass uapi_test 2
amd-exclusive pass storm_test 2000 50 1 61
amd-exclusive skip smt_test 0 1..0 # SKIP no threads
amd-exclusive pass device_irq_test 5
amd-exclusive pass device_irq_test 100000 200 300
amd-exclusive pass kunit kvm_exclusive_ipi 0
amd-exclusive pass kunit kvm_exclusive_msr 0
amd-exclusive wall 294 0
intel pass uapi_test 9
intel fail storm_test 2000 2000 300 no end within 300 s
intel required-skip ipi_test 1 ok 1 # SKIP
intel pass ipi_test 1
intel pass control/smm_test 4
intel fail control/state_test 5 unpatched: pass; patched: fail
intel wall 113 1
""", ["bochs 480", "kernel 10", "kernel 780", "half"])
        self.assertEqual("\n".join(lines), """\
                                   amd-exclusive    intel
uapi_test                                    2 s      9 s
storm_test                                  61 s     FAIL
smt_test                                    skip         
device_irq_test                            305 s         
kunit kvm_exclusive_ipi                      0 s         
kunit kvm_exclusive_msr                      0 s         
ipi_test                                             FAIL
control                                              FAIL
passed                                         6        3
failed                                         0        3
skipped                                        1        0
real time                                   4:54     1:53

What failed:
intel: storm_test 2000 2000: no end within 300 s
intel: ipi_test: ok 1 # SKIP
intel: control/state_test: unpatched: pass; patched: fail

What was built for it, in real time:
bochs                                  8:00
kernel                                13:00""")
        self.assertEqual(counts, [9, 3, 1])

    def test_a_run_whose_status_is_bad_has_failed(self):
        self.assertEqual(self.of("a pass x 1\na wall 3 1")[1], [1, 1, 0])
        self.assertEqual(self.of("a fail x 1\na wall 3 1")[1], [0, 1, 0])

    def test_a_run_without_an_end_has_failed(self):
        self.assertEqual(self.of("a pass x 1")[1], [1, 1, 0])

    def test_a_run_where_nothing_passed_has_failed(self):
        self.assertEqual(self.of("a skip x 1\na wall 3 0")[1], [0, 1, 1])
        self.assertEqual(self.of("a wall 3 0")[1], [0, 1, 0])

    def test_a_failure_counts_though_the_status_is_good(self):
        self.assertEqual(self.of("a pass x 1\na fail y 1\na wall 3 0")[1], [1, 1, 0])


class Control(unittest.TestCase):
    def compared(self, unpatched, patched):
        lines = ["smm_test\ttries=3\t# a comment", "# smm_test", "-amx_test # AMX"]
        tests = results.control_tests(lines)
        self.assertEqual(tests, ["smm_test"])
        return [line.rstrip() for line in results.control(tests, unpatched, patched)]

    def test_alike(self):
        one = ["pass 0 smm_test 4", "end"]
        self.assertEqual(self.compared(one, ["pass 0 smm_test 6"]), ["pass control/smm_test 6"])
        one = ["fail 254 smm_test 4 status 254: lost it"]
        self.assertEqual(self.compared(one, one),
                         ["pass control/smm_test 4 the same on both: status 254: lost it"])
        one = ["skip 4 smm_test 0 no SMM"]
        self.assertEqual(self.compared(one, one), ["skip control/smm_test 0 no SMM"])

    def test_differ(self):
        self.assertEqual(
            self.compared(["pass 0 smm_test 4"], ["fail 1 smm_test 5 oh"]),
            ["fail control/smm_test 5 unpatched: pass (status 0); patched: fail (status 1) oh"])
        self.assertEqual(
            self.compared(["fail 1 smm_test 4 oh"], ["fail 254 smm_test 5 oh"])[0][:4], "fail")

    def test_none(self):
        self.assertEqual(
            self.compared([], ["pass 0 smm_test 5"]),
            ["fail control/smm_test 5 unpatched: no result; patched: pass (status 0)"])
        self.assertEqual(self.compared([], []), [
            "fail control/smm_test 0 unpatched: no result; patched: no result"])


if __name__ == "__main__":
    unittest.main()
