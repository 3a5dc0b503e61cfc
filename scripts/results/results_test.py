#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Tests of results.py and of what runs in the host, and of tiers.sh with parts that only
say how they ended."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

sys.dont_write_bytecode = True
SCRIPTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, SCRIPTS)
from results import judge, ktap, lists, tests as results  # noqa: E402  this folder

TREE = os.path.join(SCRIPTS, "..", "build", "exclusive", "linux")


def result(line):
    """A record of "RESULT NAME[:ARG...] SECONDS REASON"."""
    words = line.split(None, 3) + [""]
    return {"result": words[0], "name": words[1].replace(":", " "), "seconds": int(words[2]),
            "reason": words[3]}


def run_of(lines):
    """Those of "RUN RESULT NAME SECONDS REASON", and of "RUN wall SECONDS STATUS"."""
    found = []
    for line in lines:
        run, _, rest = line.partition(" ")
        words = rest.split()
        if words[0] == "wall":
            found.append({"run": run, "seconds": int(words[1]), "status": int(words[2])})
        else:
            found.append({"run": run, **result(rest)})
    return found


class Directory(unittest.TestCase):
    """With a directory of its own."""

    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)

    def write(self, name, text, mode=0o644):
        path = os.path.join(self.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path


class Lists(Directory):
    TESTS = """# A comment
[qemu]
a_test required timeout=90	# what it proves # and more
b_test 2000 50 eoi-first full kernel=rig
c_test platform=intel
d_test kernel=plain
[soak-fuzz]
f_test 60 @ required timeout=300
[control]
smm_test tries=3
-amx_test	# AMX
"""

    def setUp(self):
        super().setUp()
        self.enterContext(mock.patch.object(lists, "TESTS", self.write("tests", self.TESTS)))

    def names(self, source, platform="amd", flavour="exclusive", **more):
        return [test["test"] for test in lists.plan(source, platform, flavour, **more)]

    def test_the_real_one(self):
        path = os.path.join(SCRIPTS, "..", "kselftests", "tests")
        groups = {test.group for test in lists.parse(path, True)}
        self.assertEqual(groups, set(lists.GROUPS))

    def test_lines(self):
        tests = lists.find("qemu")
        self.assertEqual(tests[0], lists.Test("qemu", "a_test", required=True, timeout=90,
                                              what="what it proves # and more"))
        self.assertEqual([lists.line_of(test) for test in tests], [
            "a_test required timeout=90", "b_test 2000 50 eoi-first full kernel=rig",
            "c_test platform=intel", "d_test kernel=plain"])
        self.assertEqual([lists.line_of(test) for test in lists.find("control")],
                         ["smm_test tries=3", "-amx_test"])

    def test_errors_have_their_place(self):
        for line, what in (
                ("[nothing]", "there is no nothing, but qemu"), ("[qemu", "there is no|no .GROUP"),
                ("[smt] x_test", "no nothing|there is no"),
                ("x_test timout=3", "no such option: timout=3"),
                ("x_test kernel=debug", "there is no debug, but rig, plain"),
                ("x_test platform=arm", "there is no arm"),
                ("x_test timeout=0", "a number from 1 on: 0"), ("x_test tries=x", "a number"),
                ("x_test required requird", "no such option, or an argument behind one: requird"),
                ("x_test full full", "twice: full"), ("x_test 'a", "would have to be quoted"),
                ('x_test "a"', "would have to be quoted"), ("x/test", "no name of a test: x/test"),
                ("-x_test full # REASON", "what is left out has no arguments")):
            path = self.write("list", "a_test\n# a comment\n%s\n" % line)
            with self.assertRaisesRegex(ValueError, "list:3: .*(%s)" % what, msg=line):
                lists.parse(path)
        path = self.write("list", "[qemu]\na_test\n[qemu]\n")
        with self.assertRaisesRegex(ValueError, "list:3: a group twice"):
            lists.parse(path)
        path = self.write("list", "a_test\n[qemu]\n")
        with self.assertRaisesRegex(ValueError, "list:1: before the first group"):
            lists.parse(path, True)
        with self.assertRaisesRegex(ValueError, "neither a group of tests nor a file: qemo"):
            lists.find("qemo")
        done = subprocess.run([os.path.join(SCRIPTS, "results.py"), "tests", path + ".none"],
                              check=False, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (2, ""))

    def test_selection(self):
        self.assertEqual(self.names("qemu"), ["a_test", "d_test"])
        self.assertEqual(self.names("qemu", full="1"),
                         ["a_test", "b_test 2000 50 eoi-first", "d_test"])
        self.assertEqual(self.names("qemu", "intel"), ["a_test", "c_test", "d_test"])
        self.assertEqual(self.names("qemu", flavour="debug", full="1"),
                         ["a_test", "b_test 2000 50 eoi-first"])
        for flavour in ("debian", "debian-rt"):
            self.assertEqual(self.names("qemu", flavour=flavour, full="1"), ["a_test"])
        self.assertEqual(self.names("qemu", flavour="stock", full="1"),
                         ["a_test", "b_test 2000 50 eoi-first", "d_test"])
        self.assertEqual(self.names("control"), ["smm_test"])
        with self.assertRaisesRegex(ValueError, "no test of .* platform amd and the kernel"):
            self.names(self.write("list", "x_test platform=intel\n"))
        with self.assertRaisesRegex(ValueError, "there is no arm"):
            self.names("qemu", "arm")

    def test_shares_are_all_and_apart(self):
        path = self.write("list", "".join("x%d_test\n" % i for i in range(1, 8)))
        shares = [self.names(path, share="%d/3" % k) for k in (1, 2, 3)]
        self.assertEqual(shares[0], ["x1_test", "x4_test", "x7_test"])
        self.assertEqual(sorted(sum(shares, [])), self.names(path))
        for share in ("3/2", "0/2", "1", "1/x"):
            with self.assertRaises(ValueError, msg=share):
                self.names(path, share=share)

    def test_rounds(self):
        self.assertEqual(self.names("soak-fuzz", rounds="3"),
                         ["f_test 60 1", "f_test 60 2", "f_test 60 3"])
        self.assertEqual(self.names("soak-fuzz", at="1000"), ["f_test 60 1000"])

    def test_plan(self):
        host, judged = os.path.join(self.dir, "plan"), os.path.join(self.dir, "plan.jsonl")
        lists.do_plan(host, judged, "qemu", "platform=amd", "flavour=debug", "limit=300",
                      "slow=3", "full=1", "share=", "rounds=")
        with open(host, encoding="utf-8") as file:
            self.assertEqual(file.read(), "270\t1\ta_test\n300\t1\tb_test 2000 50 eoi-first\n")
        with open(judged, encoding="utf-8") as file:
            self.assertEqual([json.loads(line) for line in file][0], {
                "test": "a_test", "required": True, "tap": True, "seconds": 270, "tries": 1,
                "flavour": "debug", "what": "what it proves # and more"})
        self.assertEqual([(test["tries"], test["tap"]) for test in
                          lists.plan("control", "amd", "exclusive")], [(3, False)])
        # The tree's own are known in each group.
        path = self.write("list", "amx_test\n")
        self.assertFalse(lists.plan(path, "amd", "exclusive")[0]["tap"])


def planned(name="x_test", required=False, tap=True, seconds=60, flavour="exclusive"):
    return {"test": name, "required": required, "tap": tap, "seconds": seconds,
            "flavour": flavour, "tries": 1, "what": ""}


TAP = "Random seed: 0x6b8b4567\nTAP version 13\n"
GOOD = TAP + "1..2\n# all well\nok 1 one\nok 2 - two # 2\n# Totals: pass:2\n"


@unittest.skipUnless(os.path.isdir(TREE), "no kernel tree: make apply")
class Ktap(unittest.TestCase):
    """What a test printed, and its exit status."""

    def judged(self, text, status=0, late=False, **more):
        return ktap.judge(ktap.load(TREE), planned(**more), status, late, text.splitlines())

    def failed(self, reason, text, status=0, **more):
        self.assertEqual(self.judged(text, status, **more), ("fail", reason))

    def test_good(self):
        self.assertEqual(self.judged(GOOD, required=True), ("pass", ""))
        self.assertEqual(self.judged(TAP + "1..2\nok 1 # XFAIL as known\nok 2\n"), ("pass", ""))

    def test_failed_case(self):
        bad = TAP + "1..3\n# a\nok 1 one\n# sent 5, lost 1\nnot ok 2 two\nok 3 three\n"
        self.failed("status 1: ok 1 one;# sent 5, lost 1;not ok 2 two", bad, 1)
        self.failed("status 0, but a case failed: ok 1 one;# sent 5, lost 1;not ok 2 two", bad)
        self.failed("status 4, but a case failed: ok 1 one;# sent 5, lost 1;not ok 2 two", bad, 4)
        self.failed("status 1: 1..2;ok 1 one;Bail out! open: no",
                    TAP + "1..2\nok 1 one\nBail out! open: no\n", 1)
        self.assertEqual(len(self.judged(TAP + "1..1\nnot ok 1 " + 999 * "x", 1)[1]),
                         len("status 1: ") + 400)

    def test_bad_status(self):
        self.failed("status 1, though all planned cases passed: # Totals: pass:2", GOOD, 1)
        self.failed("status 137, though all planned cases passed: # Totals: pass:2", GOOD, 137)

    def test_cases_are_missing(self):
        few = TAP + "1..3\nok 1 one\nok 2 two\n"
        self.failed("status 0, but 2 of 3 planned cases: ok 2 two", few)
        self.failed("status 139, 2 of 3 planned cases: ok 2 two", few, 139)
        self.failed("status 0, but 0 of 3 planned cases: 1..3", TAP + "1..3\n")

    def test_cases_too_many(self):
        self.failed("status 0, but 3 of 2 planned cases: ok 3 three",
                    TAP + "1..2\nok 1 one\nok 2 two\nok 3 three\n")

    def test_cases_out_of_order(self):
        self.assertRegex(self.judged(TAP + "1..2\nok 1 one\nok 3 three\n")[1],
                         "status 0, but .*Expected test number 2 but found 3")

    def test_no_plan(self):
        self.failed("status 0, but no plan: ok 1 one", TAP + "ok 1 one\n")
        self.failed("status 0, but a plan behind the results, or in their middle: 1..1",
                    TAP + "ok 1 one\n1..1\n")
        self.assertEqual(self.judged(TAP + "1..0\n")[0], "fail")

    def test_a_plan_in_the_middle(self):
        self.assertEqual(self.judged(TAP + "1..3\nok 1 one\nTAP version 13\n1..2\n# ok 1\n"
                                     "ok 2 two\nok 3 three\n")[0], "fail")

    def test_no_tap(self):
        alone = "Random seed: 0x6b8b4567\n"
        self.failed("status 0, but no TAP: Random seed: 0x6b8b4567", alone)
        self.failed("status 0, but no TAP: no output", "")
        self.assertEqual(self.judged(alone, tap=False), ("pass", ""))
        self.failed("status 254:   lost it", alone + "  lost it\n", 254, tap=False)
        self.failed("status 127: not there", "not there\n", 127)

    def test_timeout(self):
        self.failed("no end within 60 s", TAP + "1..2\nnot ok 1 no end in time\n", 124, late=True)

    def test_skips(self):
        none = "1..0 # SKIP no IOMMU\n"
        for text, status in ((TAP + none, 4), (TAP + none, 0), (none, 4), (none, 0)):
            self.assertEqual(self.judged(text, status), ("skip", "1..0 # SKIP no IOMMU"))
            self.assertEqual(self.judged(text, status, required=True),
                             ("required-skip", "1..0 # SKIP no IOMMU"))
        some = TAP + "1..2\nok 1 one\nok 2 # SKIP a cpuset of version 1 - %s\n"
        here, elsewhere = some % "none", some % "not in this kernel"
        self.assertEqual(self.judged(here), ("pass", ""))
        self.assertEqual(self.judged(here, required=True),
                         ("required-skip", "ok 2 # SKIP a cpuset of version 1 - none"))
        for flavour in ("exclusive", "debug", "stock"):
            self.assertEqual(self.judged(elsewhere, required=True, flavour=flavour)[0],
                             "required-skip")
        for flavour in ("debian", "debian-rt"):
            self.assertEqual(self.judged(elsewhere, required=True, flavour=flavour), ("pass", ""))
            self.assertEqual(self.judged(here, required=True, flavour=flavour)[0],
                             "required-skip")
        both = TAP + "1..2\nok 1 # SKIP x not in this kernel\nok 2 # SKIP y\n"
        self.assertEqual(self.judged(both, required=True, flavour="debian"),
                         ("required-skip", "ok 2 # SKIP y"))

    def test_harness(self):
        """Of kselftest_harness.h, as kselftests/x86/irq_test.c printed it, shortened."""
        start = ("Random seed: 0x6b8b4567\n" + TAP + "1..2\n# Starting 2 tests from 1 test cases.\n"
                 "#  RUN           edge.irqfd.once ...\n# irqfd: 5 of 5, exits 44\n"
                 "#            OK  edge.irqfd.once\nok 1 edge.irqfd.once\n"
                 "#  RUN           edge.irqfd.no_exit ...\n")
        good = "#            OK  edge.irqfd.no_exit\nok 2 edge.irqfd.no_exit\n"
        skip = "#      SKIP      stock\n" + good.rstrip() + " # SKIP stock\n"
        bad = ("# irqfd: 4 of 5, exits 9\n# x86/irq_test.c:306:no_exit:Expected 0 (0) != ok (0)\n"
               "# no_exit: Test terminated by assertion\n#          FAIL  edge.irqfd.no_exit\n"
               "not ok 2 edge.irqfd.no_exit\n")
        self.assertEqual(self.judged(start + good, required=True), ("pass", ""))
        self.assertEqual(self.judged(start + skip), ("pass", ""))
        self.assertEqual(self.judged(start + skip, required=True),
                         ("required-skip", "ok 2 edge.irqfd.no_exit # SKIP stock"))
        self.failed("status 1: # irqfd: 4 of 5, exits 9;# x86/irq_test.c:306:no_exit:Expected "
                    "0 (0) != ok (0);not ok 2 edge.irqfd.no_exit", start + bad, 1)
        self.failed("status 1: # was: a, now: b;# was: c, now: d;# irqfd: 4 of 5, exits 9;"
                    "# x86/irq_test.c:306:no_exit:Expected 0 (0) != ok (0);"
                    "not ok 2 edge.irqfd.no_exit",
                    start + "# was: a, now: b\n# was: c, now: d\n" + bad, 1)
        many = "".join("# was: %d, now: %s\n" % (i, 50 * "x") for i in range(9))
        reason = self.judged(start + many + bad, 1)[1]
        self.assertRegex(reason, "^status 1: # was: [1-8], .*exits 9;.*not ok 2 edge.irqfd.no_exit$")
        self.assertLessEqual(len(reason), len("status 1: ") + 400)
        self.failed("status 0, but 1 of 2 planned cases: #  RUN           edge.irqfd.no_exit ...",
                    start)

    def test_suites(self):
        suite = ("KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: s\n    1..2\n"
                 "    ok 1 one\n%s# s: pass:2\n%s 1 s\n")
        self.assertEqual(self.judged(suite % ("    ok 2 two\n", "ok")), ("pass", ""))
        self.assertRegex(self.judged(suite % ("", "ok"))[1], "status 0, but 1 of 2 .* in s")
        self.assertEqual(self.judged(suite % ("    not ok 2 two\n", "not ok"), 1)[1],
                         "status 1:     1..2;    ok 1 one;    not ok 2 two")
        self.assertEqual(self.judged(suite % ("    not ok 2 two\n", "ok"))[0], "fail")

    def test_no_tree(self):
        with self.assertRaisesRegex(ValueError, "no parser of KTAP in /nowhere"):
            with mock.patch.dict(sys.modules):
                sys.modules.pop("kunit_parser", None)
                ktap.load("/nowhere")


@unittest.skipUnless(os.path.isdir(TREE), "no kernel tree: make apply")
class Host(Directory):
    """What a host has left of a plan."""

    PLAN = ("a_test", "b_test 1", "b_test 1")

    def host(self, left, verdict="PASS", began=3, plan=PLAN, name="host"):
        self.write(name + "/plan.jsonl",
                   "".join(json.dumps(planned(test)) + "\n" for test in plan))
        self.write(name + "/records.jsonl",
                   "".join(line if isinstance(line, str) else json.dumps(line) + "\n"
                           for line in left))
        self.write(name + "/tap/good", GOOD)
        self.write(name + "/tap/bad", TAP + "1..1\nnot ok 1 oh\n")
        self.write(name + "/tap/skip", TAP + "1..0 # SKIP no\n")
        self.write(name + "/output.log", "".join("%d.50 %s\n" % (i, test) for i, test in
                                                 enumerate(plan[:began])))
        self.write(name + "/verdict", "FAIL: no verdict\n" + verdict + "\n")
        return judge.Host(os.path.join(self.dir, name), ktap.load(TREE))

    def results(self, *args, **more):
        return [tuple(judged[:4]) for judged in self.host(*args, **more).results()]

    @staticmethod
    def record(test, status=0, seconds=1, timeout=False, tap="good"):
        return {"test": test, "status": status, "seconds": seconds, "timeout": timeout,
                "tap": "tap/" + tap}

    def left(self):
        return [{"step": "load the module", "status": 0}, self.record("a_test"),
                self.record("b_test 1", 1, 2, tap="bad"),
                self.record("b_test 1", 124, 60, True, "bad"),
                {"step": "unload the module", "status": 0}, {"end": True}]

    ENDED = [("pass", "a_test", 1, ""),
             ("fail", "b_test 1", 2, "status 1: TAP version 13;1..1;not ok 1 oh"),
             ("fail", "b_test 1", 60, "no end within 60 s")]

    def test_all_ran(self):
        self.assertEqual(self.results(self.left()), self.ENDED)

    def test_a_module_stays(self):
        left = self.left()
        left[4]["status"] = 1
        self.assertEqual(self.results(left),
                         self.ENDED + [("fail", "unload the module", 0, "status 1")])

    def test_a_splat_that_ends_nothing(self):
        self.assertEqual(
            self.results(self.left(), "FAIL: kernel log of the host: WARNING: x"),
            self.ENDED + [("fail", "host", 0, "FAIL: kernel log of the host: WARNING: x; "
                           "during: 1.50 b_test 1; 2.50 b_test 1")])

    def test_the_host_goes_down(self):
        panic = "FAIL: kernel log of the host: Kernel panic"
        self.assertEqual(self.results(self.left()[:2], panic, 2), [
            self.ENDED[0],
            ("fail", "b_test 1", 0, "the host went down: %s; during: 0.50 a_test; "
             "1.50 b_test 1" % panic),
            ("fail", "b_test 1", 0, "did not run")])
        # With half a record, which is none.
        half = self.left()[:3] + ['{"test": "b_te']
        self.assertEqual([r[3][:18] for r in self.results(half, panic)],
                         ["", "status 1: TAP vers", "the host went down"])

    def test_the_host_goes_down_between_tests(self):
        self.assertEqual(self.results(self.left()[:2], "FAIL: no verdict", 1)[1:], [
            ("fail", "b_test 1", 0, "did not run"), ("fail", "b_test 1", 0, "did not run"),
            ("fail", "host", 0, "FAIL: no verdict; during: 0.50 a_test")])
        self.assertEqual([r[1:4:2] for r in self.results([], "FAIL: no verdict", 0)], [
            ("a_test", "did not run"), ("b_test 1", "did not run"), ("b_test 1", "did not run"),
            ("host", "FAIL: no verdict; during: ")])
        # Behind the last.
        self.assertEqual(self.results(self.left()[:4], "FAIL: no verdict")[3][:2],
                         ("fail", "host"))

    def test_the_module_does_not_load(self):
        self.assertEqual(
            [r[1:] for r in self.results([{"step": "load the module", "status": 1}],
                                         "FAIL: the command ended with status 1", 0)][2:],
            [("b_test 1", 0, "did not run"), ("load the module", 0, "status 1"),
             ("host", 0, "FAIL: the command ended with status 1; during: ")])

    def test_a_record_of_another_test(self):
        left = self.left()
        left[1]["test"] = "z_test"
        self.assertEqual(self.results(left)[0],
                         ("fail", "a_test", 0, "its record is of z_test"))
        # One that is missing though the host came to its end.
        for began, reason in ((2, "did not run"), (3, "left no record")):
            self.assertEqual(self.results(self.left()[:3] + [{"end": True}], began=began)[2:],
                             [("fail", "b_test 1", 0, reason)])
        # A crash has lost records.
        self.assertEqual([r[3][:18] for r in self.results([], "FAIL: x", 2)],
                         ["left no record", "the host went down", "did not run"])

    def compared(self, unpatched, patched, **more):
        return [tuple(r) for r in judge.control(
            self.host(unpatched + [{"end": True}], plan=("smm_test",), name="stock"),
            self.host(patched, plan=("smm_test",), name="patched", **more))]

    def one(self, **more):
        return [self.record("smm_test", **more)]

    END = [{"end": True}]

    def test_control_alike(self):
        self.assertEqual(self.compared(self.one(seconds=4), self.one(seconds=6) + self.END),
                         [("pass", "control/smm_test", 6, "")])
        bad = self.one(status=254, tap="bad")
        self.assertEqual(self.compared(bad, bad + self.END), [
            ("pass", "control/smm_test", 1,
             "the same on both: status 254: TAP version 13;1..1;not ok 1 oh")])
        skip = self.one(status=4, tap="skip")
        self.assertEqual(self.compared(skip, skip + self.END),
                         [("skip", "control/smm_test", 1, "1..0 # SKIP no")])

    def test_control_differ(self):
        bad = self.one(status=1, tap="bad")
        self.assertEqual(self.compared(self.one(), bad + self.END), [
            ("fail", "control/smm_test", 1, "unpatched: pass (status 0); patched: fail "
             "(status 1) status 1: TAP version 13;1..1;not ok 1 oh")])
        other = self.one(status=254, tap="bad")
        self.assertEqual(self.compared(bad, other + self.END)[0][0], "fail")

    def test_control_none(self):
        self.assertEqual(self.compared([], self.one() + self.END), [
            ("fail", "control/smm_test", 1, "unpatched: left no record; patched: pass (status 0)")])
        # Alike, and no good.
        self.assertEqual([r[:2] for r in self.compared([], [], verdict="FAIL: x")],
                         [("fail", "control/smm_test")])
        self.assertEqual(self.compared(self.one(), self.one(), verdict="FAIL: x")[1][:2],
                         ("fail", "control/host-patched"))


class HostScript(Directory):
    """scripts/test/host/run-plan.sh, with programs that are none of the tests."""

    def run_plan(self, plan, *module):
        out = os.path.join(self.dir, "out")
        with open(os.path.join(SCRIPTS, "test", "host", "run-plan.sh"), encoding="utf-8") as file:
            script = file.read().replace("/mnt/out", out).replace("/dev/kmsg", "/dev/null")
        self.write("test/run-plan.sh", script, 0o755)
        self.write("test/kunit.sh", "#!/bin/sh\necho $*\n", 0o755)
        self.write("kselftests/x_test", "#!/bin/sh\necho $* >>../ran\nexit $1\n", 0o755)
        self.write("kselftests/slow_test", "#!/bin/sh\nexec sleep 60\n", 0o755)
        self.write("kselftests/better_test", "#!/bin/sh\nmkdir $1/first 2>/dev/null && exit 1\n"
                   "mkdir $1/second 2>/dev/null && exit 1\nexit 0\n", 0o755)
        self.write("plan", plan)
        done = subprocess.run(["./test/run-plan.sh", "plan", *module], cwd=self.dir, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        with open(os.path.join(out, "records.jsonl"), encoding="utf-8") as file:
            left = [json.loads(line) for line in file]
        return done, left

    def test_records(self):
        done, left = self.run_plan("60\t1\tx_test 0 eoi-first\n60\t3\tx_test 4\n"
                                   "60\t1\tx_test 0 eoi-first\n60\t1\tkunit suite\n"
                                   "1\t1\tslow_test\n60\t1\tno_test\n")
        self.assertEqual(done.returncode, 0)
        self.assertEqual(left.pop(), {"end": True})
        self.assertEqual([(r["test"], r["status"], r["timeout"], r["tap"]) for r in left], [
            ("x_test 0 eoi-first", 0, False, "tap/x_test_0_eoi-first.tap"),
            ("x_test 4", 4, False, "tap/x_test_4.tap"),
            ("x_test 0 eoi-first", 0, False, "tap/x_test_0_eoi-first.2.tap"),
            ("kunit suite", 0, False, "tap/kunit_suite.tap"),
            ("slow_test", 124, True, "tap/slow_test.tap"),
            ("no_test", 127, False, "tap/no_test.tap")])
        self.assertRegex(done.stdout.splitlines()[0], r"^[0-9.]+ x_test 0 eoi-first$")
        # A skip is not tried again.
        with open(os.path.join(self.dir, "ran"), encoding="utf-8") as file:
            self.assertEqual(file.read().split("\n"), ["0 eoi-first", "4", "0 eoi-first", ""])
        tap = os.path.join(self.dir, "out", "tap", "kunit_suite.tap")
        with open(tap, encoding="utf-8") as file:
            self.assertEqual(file.read(), "suite\n")

    def test_tries(self):
        for tries, status in ((2, 1), (3, 0)):
            for name in ("first", "second"):
                shutil.rmtree(os.path.join(self.dir, name), ignore_errors=True)
            shutil.rmtree(os.path.join(self.dir, "out"), ignore_errors=True)
            _, left = self.run_plan("60\t%d\tbetter_test %s\n" % (tries, self.dir))
            self.assertEqual([r["status"] for r in left if "test" in r], [status])

    def test_a_module_that_does_not_load(self):
        done, left = self.run_plan("60\t1\tx_test 0\n", "none.ko")
        self.assertEqual((done.returncode, [r["step"] for r in left]), (1, ["load the module"]))
        self.assertNotEqual(left[0]["status"], 0)


class Lines(Directory):
    def parsed(self, line):
        return results.result_of(results.record_of(line))

    def test_fields(self):
        line = results.dump(results.Result("fail", "storm_test 2000 50", 12, 'status 1: "x" 3'))
        self.assertEqual(self.parsed(line), ("fail", "storm_test 2000 50", 12, 'status 1: "x" 3'))

    def test_what_cannot_be_read_has_failed(self):
        for line in ("pass ipi_test 3", "", "{", "[]", "{}", '{"result": "pass"}',
                     '{"result": "passed", "name": "x", "seconds": 1, "reason": ""}',
                     '{"result": "pass", "name": "", "seconds": 1, "reason": ""}',
                     '{"result": "pass", "name": "x", "seconds": "1", "reason": ""}'):
            self.assertEqual(self.parsed(line)[:2], ("fail", "unreadable"), line)

    def test_counts(self):
        lines = [result(line) for line in ("pass a 1", "skip b 0 no", "required-skip c 0 no",
                                           "fail d 1")] + [results.record_of("?")]
        self.assertEqual(results.count(results.results_of(lines)), (1, 3, 1))

    def test_commands(self):
        def command(*args):
            return subprocess.run([os.path.join(SCRIPTS, "results.py"), *args], check=True,
                                  capture_output=True, text=True).stdout

        line = command("result", "fail", "check", 'a "b": c')
        path = self.write("results.jsonl", line + "?\n")
        run = [json.loads(line) for line in command("run", "amd", "9", "1", path).splitlines()]
        self.assertEqual(run, [
            {"run": "amd", "result": "fail", "name": "check", "seconds": 0, "reason": 'a "b": c'},
            {"run": "amd", "unreadable": "?"}, {"run": "amd", "seconds": 9, "status": 1}])


class Table(unittest.TestCase):
    def of(self, text, times=()):
        return results.table(results.runs_of(run_of(text.strip().splitlines())), times)

    def test_look(self):
        lines, counts = self.of("""
amd-exclusive pass uapi_test 2
amd-exclusive pass storm_test:2000:50 61
amd-exclusive skip smt_test 0 1..0 # SKIP no threads
amd-exclusive pass device_irq_test 5
amd-exclusive pass device_irq_test:100000:200 300
amd-exclusive pass kunit:kvm_exclusive_ipi 0
amd-exclusive pass kunit:kvm_exclusive_msr 0
amd-exclusive wall 294 0
intel pass uapi_test 9
intel fail storm_test:2000:2000 300 no end within 300 s
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


class Records(Directory):
    GOOD = ["amd pass x 1", "amd wall 3 0"]

    def state(self, lines, inputs):
        results.write_record(self.dir, "amd", {"kernel": "1", "list": "2"}, run_of(lines), "today")
        return results.state(results.read_record(self.dir, "amd"), inputs)

    def test_states(self):
        same = {"kernel": "1", "list": "2"}
        self.assertEqual(results.state(results.read_record(self.dir, "amd"), same)[0], "never")
        self.assertEqual(self.state(self.GOOD, same), ("passed", "today"))
        self.assertEqual(self.state(self.GOOD, {"kernel": "3", "list": "2"}),
                         ("stale", "passed today; changed: kernel"))
        self.assertEqual(self.state(self.GOOD, {"kernel": "1"})[0], "stale")
        self.assertEqual(self.state(self.GOOD, {**same, "rig": "5"})[0], "stale")
        self.assertEqual(self.state(self.GOOD, {})[0], "stale")
        self.assertEqual(self.state(["amd fail x 1", "amd wall 3 1"], same),
                         ("failed", "today: 0 pass, 1 fail, 0 skip"))
        self.assertEqual(self.state(["amd pass x 1"], same)[0], "failed")
        self.assertEqual(self.state([], same)[0], "failed")

    def test_what_is_no_record_is_none(self):
        path = results.record_path(self.dir, "amd")
        # What was remembered as text is of an older form.
        older = json.dumps({"part": "amd", "date": "today", "inputs": {}, "results": self.GOOD})
        for text in ("", "{", "[]", '{"part": "intel"}', '{"part": "amd"}', older):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            self.assertIsNone(results.read_record(self.dir, "amd"), text)


class Runner(unittest.TestCase):
    """tiers.sh, make and the parts' scripts being stubs that say what they were called for."""

    STUB = """#!/bin/sh
case ${0##*/} in
groups.sh) part=$TEST_PART out=$TOP/build/report/test-$part/results.jsonl ;;
check.sh) part=check out=$RESULTS ;;
silicon.sh)
    part=silicon out=$TOP/build/report/silicon/1-intel/results.jsonl
    mkdir -p "${out%/*}"
    ;;
esac
echo "${0##*/} $part ${PLATFORM:--} ${FLAVOUR:--} ${TEST_FULL:--} ${SEEDS:--}" >>"$TOP/ran"
[ -z "${TEST_LIST:-}" ] || echo "group $TEST_LIST $TEST_ROUNDS" >>"$TOP/ran"
[ ! -f "$TOP/edit" ] || . "$TOP/edit"
case " $(cat "$TOP/fail" 2>/dev/null) " in
*" $part "*)
    echo '{"result": "fail", "name": "x_test", "seconds": 1, "reason": "oh"}' >"$out"
    exit 1
    ;;
*" status:$part "*)
    echo '{"result": "pass", "name": "x_test", "seconds": 1, "reason": ""}' >"$out"
    exit 1
    ;;
*" silent:$part "*)
    exit 0
    ;;
esac
echo '{"result": "pass", "name": "x_test", "seconds": 1, "reason": ""}' >"$out"
"""

    def setUp(self):
        self.top = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.top)
        for name in ("bin", "kselftests", "scripts/rig", "scripts/test",
                     "scripts/silicon", "scripts/check"):
            os.makedirs(self.path(name))
        for name in ("lib.sh", "test/parts.sh", "test/tiers.sh", "results.py"):
            shutil.copy(os.path.join(SCRIPTS, name), self.path("scripts", name))
        shutil.copytree(os.path.join(SCRIPTS, "results"), self.path("scripts", "results"),
                        ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("test/groups.sh", "silicon/silicon.sh", "check/check.sh"):
            self.write(("scripts", name), self.STUB)
        self.write(("bin", "make"), '#!/bin/sh\necho "$@" >>"$TOP/made"\n')
        # The real one would have each part wait a second twice.
        self.write(("bin", "sleep"), "#!/bin/sh\nexec /bin/sleep 0.05\n")
        self.write(("bin", "nproc"), "#!/bin/sh\necho 2\n")
        self.write((".gitignore",), "/build/\n/ran\n/made\n/fail\n/edit\n/bin/\n")
        self.write(("scripts", "rig", "run.sh"), "")
        self.groups()
        subprocess.run(["git", "init", "-q", self.top], check=True)
        subprocess.run(["git", "-C", self.top, "-c", "user.name=x", "-c", "user.email=x@x",
                        "commit", "-q", "--allow-empty", "-m", "x"], check=True)

    def groups(self, **tests):
        """Each group has one test, but for those given."""
        text = "".join("[%s]\n%s\n" % (group, tests.get(group, "x_test"))
                       for group in lists.GROUPS)
        self.write(("kselftests", "tests"), text)

    def path(self, *names):
        return os.path.join(self.top, *names)

    def write(self, names, text):
        with open(self.path(*names), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.path(*names), 0o755)

    def read(self, name):
        try:
            with open(self.path(name), encoding="utf-8") as file:
                return file.read().splitlines()
        except FileNotFoundError:
            return []
        finally:
            if os.path.exists(self.path(name)):
                os.remove(self.path(name))

    def environment(self, **env):
        kept = {k: v for k, v in os.environ.items() if k in ("HOME", "TMPDIR")}
        return {**kept, "TOP": self.top, "KVM_EXCL_CACHE": self.path("build", "cache"),
                "PATH": self.path("bin") + ":/usr/bin:/bin", **env}

    @staticmethod
    def wait(condition):
        for _ in range(200):
            if condition():
                return True
            time.sleep(0.05)
        return False

    def run_tests(self, *args, **env):
        """Status, what it printed, and which parts ran."""
        done = subprocess.run(
            [self.path("scripts", "test", "tiers.sh"), *args], check=False, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment(**env))
        self.output = done.stdout + done.stderr
        ran = self.read("ran")
        return done.returncode, done.stdout.splitlines(), sorted(l.split()[1] for l in ran), ran

    def test_test(self):
        status, out, ran, lines = self.run_tests()
        self.assertEqual((status, out[-1]), (0, "4 passed, 0 failed, 0 skipped"), self.output)
        self.assertEqual(ran, ["amd-bochs-exclusive", "amd-exclusive", "intel-exclusive",
                               "silicon"])
        self.assertIn("silicon.sh silicon - - - 1", lines)
        self.assertEqual(sum(l.endswith(" skipped") for l in out), 1, self.output)
        with open(self.path("build/report/tests.txt"), encoding="utf-8") as file:
            self.assertEqual(file.read().splitlines()[-1], out[-1])
        self.write(("fail",), "intel-exclusive")
        status, out, ran, _ = self.run_tests()
        self.assertEqual((status, out[-1]), (1, "3 passed, 1 failed, 0 skipped"), self.output)
        # What it judges besides its tests.
        self.write(("fail",), "status:silicon")
        status, out, ran, _ = self.run_tests()
        self.assertEqual((status, out[-1]), (1, "4 passed, 1 failed, 0 skipped"), self.output)
        self.write(("fail",), "silent:amd-exclusive")
        status, out, ran, _ = self.run_tests(PLATFORM="amd")
        self.assertEqual((status, out[-1], ran),
                         (1, "0 passed, 1 failed, 0 skipped", ["amd-exclusive"]), self.output)
        os.remove(self.path("fail"))
        status, out, ran, lines = self.run_tests(PLATFORM="intel")
        self.assertEqual((status, ran), (0, ["intel-exclusive", "silicon"]), self.output)
        self.assertIn("silicon.sh silicon intel - - 1", lines)

    def test_full(self):
        self.write(("fail",), "amd-debug")
        status, out, ran, _ = self.run_tests("full")
        self.assertEqual((status, len(ran)), (1, 16), self.output)
        self.assertEqual(out[-1], "15 passed, 1 failed, 0 skipped")
        os.remove(self.path("fail"))

        # What failed runs again, and it alone; the count is of all.
        self.read("made")
        status, out, ran, _ = self.run_tests("full")
        self.assertEqual((status, ran), (0, ["amd-debug"]), self.output)
        self.assertEqual(out[-1], "16 passed, 0 failed, 0 skipped")
        made = self.read("made")[0].split()
        self.assertIn("kernel-debug", made)
        self.assertNotIn("kernel-stock-rig", made)

        # Nothing changed: nothing runs, nothing is built.
        status, out, ran, _ = self.run_tests("full")
        self.assertEqual((status, ran, self.read("made")), (0, [], []), self.output)
        self.assertEqual(out[-1], "16 passed, 0 failed, 0 skipped")
        self.assertEqual(sum(l.startswith("real time") for l in out), 1, self.output)
        self.assertEqual(sum(l.startswith("  ") and "pass" not in l for l in
                             out[out.index("Not run again, as nothing of them has changed "
                                           "since they passed:"):]), 16, self.output)

        # How a group is written is nothing to the parts with it, nor is a comment.
        self.groups(qemu="x_test  # a comment")
        self.assertEqual(self.stale(), ["check"])

        # A group changed: the parts with it.  One of them fails, and says so afterwards.
        self.groups(qemu="x_test\ny_test")
        self.write(("fail",), "amd")
        status, _, ran, _ = self.run_tests("full", PART="amd,intel")
        self.assertEqual((status, ran), (1, ["amd"]), self.output)
        states = self.states()
        self.assertRegex(states["amd"], "failed .*: 0 pass, 1 fail")
        self.assertRegex(states["amd-debug"], "stale .*passed .*changed: tests-qemu$")
        self.assertRegex(states["check"], "stale .*changed: everything$")
        self.assertRegex(states["intel"], " passed ")
        os.remove(self.path("fail"))

        status, _, ran, _ = self.run_tests("full", PART="intel", FORCE="1")
        self.assertEqual((status, ran), (0, ["intel"]), self.output)
        # What a user sets goes into it, too.
        status, _, ran, _ = self.run_tests("full", PART="intel", APPEND="nosmt")
        self.assertEqual((status, ran), (0, ["intel"]), self.output)

    def states(self):
        _, out, _, _ = self.run_tests("full", PART="list")
        return {line.split()[0]: line for line in out}

    def stale(self):
        return sorted(part for part, state in self.states().items() if " stale " in state)

    def test_each_group_is_of_its_parts(self):
        self.run_tests("full")
        of = {"qemu": "amd amd-debug debian debian-rt", "smt": "amd amd-debug",
              "devices": "devices devices-debug", "disks": "disks disks-threads", "control": "control",
              "bochs": "amd-bochs intel intel-debug-1 intel-debug-2 intel-skylake",
              "silicon": "silicon", "host": "", "soak-ipi": ""}
        for group, parts in of.items():
            self.groups(**{group: "y_test"})
            self.assertEqual(self.stale(), sorted(parts.split() + ["check"]), group)
        self.write(("kselftests", "tests"), "[qemu]\nx_test timout=3\n")
        status, _, ran, _ = self.run_tests("full")
        self.assertEqual((status != 0, ran), (True, []))
        self.assertRegex(self.output, "kselftests/tests:2: no such option: timout=3")

    def changed(self):
        """Of all parts the inputs that are not what they were."""
        return {name for state in self.states().values() if "changed: " in state
                for name in state.split("changed: ")[1].split(", ")} - {"everything"}

    def test_each_input_is_of_its_files(self):
        self.run_tests("full")
        kernels = "kernel kernel-debug kernel-debian kernel-stock-rig"
        for path, inputs in {
                "Kconfig.fragment": kernels, "scripts/build/kernel.sh": kernels,
                "scripts/rig/debug.config": "kernel-debug", "scripts/rig/modules": "kernel-debian",
                "scripts/rig/patches/x.patch": "kernel-stock-rig",
                "module/x.c": "module", "scripts/build/module.sh": "module",
                "kselftests/x86/x_test.c": "kselftests", "kselftests/quiet/x.c": "",
                "scripts/build/cpio.sh": "rig", "scripts/rig/host/init": "rig",
                "scripts/rig/intel.sh": "rig-bochs", "scripts/rig/bochs/x.patch": "bochs",
                "scripts/build/rootfs.sh": "rootfs", "scripts/build/deps.sh": "",
                "scripts/rig/payload.sh": "scripts", "scripts/test/host/x_test.sh": "scripts",
                "scripts/bench/measure/pin.sh": "scripts", "scripts/bench/measure/load.sh": "",
                "scripts/silicon/mutants/x.patch": "silicon"}.items():
            os.makedirs(os.path.dirname(self.path(path)), exist_ok=True)
            self.write((path,), "x")
            self.assertEqual(self.changed(), set(inputs.split()), path)
            os.remove(self.path(path))
        self.assertEqual(self.stale(), [])

    def test_the_files_of_inputs_are_there(self):
        with open(os.path.join(SCRIPTS, "test", "parts.sh"), encoding="utf-8") as file:
            named = re.findall(r"\(hash_of ([^)]*)\)", file.read())
        paths = " ".join(named).replace("\\", "").split()
        self.assertGreater(len(paths), 30)
        self.assertEqual([path for path in paths if not os.path.exists(
            os.path.join(SCRIPTS, "..", path))], [])

    def test_a_change_while_it_runs(self):
        self.write(("edit",), 'sed -i "s/^.qemu.$/&\\nx_test $$/" "$TOP/kselftests/tests"\n')
        for _ in range(2):
            status, _, ran, _ = self.run_tests("full", PART="amd")
            self.assertEqual((status, ran), (0, ["amd"]), self.output)
            self.assertIn("amd: not remembered", self.output)

    def test_nothing_is_left_when_interrupted(self):
        self.write(("edit",), 'echo $$ >"$TOP/.pid"; mv "$TOP/.pid" "$TOP/pid"; exec /bin/sleep 60\n')
        with subprocess.Popen([self.path("scripts", "test", "tiers.sh")], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, env=self.environment()) as tests:
            self.assertTrue(self.wait(lambda: os.path.exists(self.path("pid"))))
            pid = int(self.read("pid")[0])
            tests.terminate()
        self.assertEqual(tests.returncode, 130)
        left = not self.wait(lambda: not os.path.exists("/proc/%d" % pid))
        if left:
            os.kill(pid, signal.SIGKILL)
        self.assertFalse(left)

    def test_no_such_part(self):
        for part in ("nothing", "amd,nothing"):
            status, _, ran, _ = self.run_tests("full", PART=part)
            self.assertEqual((status, ran), (1, []), self.output)
        self.assertEqual(self.run_tests(PLATFORM="nothing")[0], 1)

    def test_arguments_alone(self):
        for args in (("test",), ("full",), ("soak",)):
            status, out, ran, _ = self.run_tests(*args, "args")
            self.assertEqual((status, out, ran, self.read("made")), (0, [], [], []), self.output)
            for env in ({"PART": "nothing"}, {"PLATFORM": "nothing"}):
                status, _, ran, _ = self.run_tests(*args, "args", **env)
                self.assertEqual((status, ran), (1, []), self.output)

    def test_soak(self):
        status, _, ran, lines = self.run_tests("soak", PART="intel-fuzz,silicon", SOAK_ROUNDS="3")
        self.assertEqual((status, len(lines)), (0, 3), self.output)
        self.assertIn("group soak-fuzz 3", lines)
        self.assertIn("silicon.sh silicon - - - 101 102 103", lines)
        self.write(("fail",), "intel-fuzz")
        status, _, ran, lines = self.run_tests("soak", PART="intel-fuzz", SOAK_ROUNDS="2")
        self.assertEqual(status, 1, self.output)
        with open(self.path("build/report/soak.jsonl"), encoding="utf-8") as file:
            log = [json.loads(line) for line in file]
        self.assertEqual([l["part"] for l in log], ["silicon", "intel-fuzz", "intel-fuzz"])
        self.assertEqual([l["failed"] for l in log], [0, 0, 1])
        self.assertEqual(log[2]["failures"][0]["reason"], "oh")
        self.assertEqual(log[2]["rounds"], 2)


if __name__ == "__main__":
    unittest.main()
