#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Tests of results.py, and of tests.sh with parts that only say how they ended."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

sys.dont_write_bytecode = True
from results import ktap, lists, tests as results  # noqa: E402  beside this file

SCRIPTS = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.join(SCRIPTS, "..", "build", "exclusive", "linux")


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


class Lines(unittest.TestCase):
    def parsed(self, line, *expected):
        self.assertEqual(tuple(results.parse(line)), expected)

    def test_fields(self):
        self.parsed("pass ipi_test 3", "pass", "ipi_test", 3, "")
        self.parsed("fail irq_test 12 status 1: not ok 3 lost", "fail", "irq_test", 12,
                    "status 1: not ok 3 lost")

    def test_arguments_are_no_seconds(self):
        self.parsed("pass storm_test 2000 50 1 7", "pass", "storm_test 2000 50 1", 7, "")
        self.parsed("pass storm_test 2000 2000 deadline 7", "pass",
                    "storm_test 2000 2000 deadline", 7, "")
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


class Records(unittest.TestCase):
    GOOD = ["amd pass x 1", "amd wall 3 0"]

    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)

    def state(self, lines, inputs):
        results.write_record(self.dir, "amd", {"kernel": "1", "list": "2"}, lines, "today")
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
        for text in ("", "{", "[]", '{"part": "intel"}', '{"part": "amd"}'):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            self.assertIsNone(results.read_record(self.dir, "amd"), text)


class Runner(unittest.TestCase):
    """tests.sh, make and the parts' scripts being stubs that say what they were called for."""

    STUB = """#!/bin/sh
case ${0##*/} in
test.sh) part=$TEST_PART out=$TOP/build/report/test-$part/results ;;
check.sh) part=check out=$RESULTS ;;
silicon.sh)
    part=silicon out=$TOP/build/report/silicon/1-intel/results
    mkdir -p "${out%/*}"
    ;;
esac
echo "${0##*/} $part ${PLATFORM:--} ${FLAVOUR:--} ${TEST_FULL:--} ${SEEDS:--}" >>"$TOP/ran"
[ -z "${TEST_LIST:-}" ] || cat "$TEST_LIST" >>"$TOP/ran"
[ ! -f "$TOP/edit" ] || . "$TOP/edit"
case " $(cat "$TOP/fail" 2>/dev/null) " in
*" $part "*)
    echo "fail x_test 1 oh" >"$out"
    exit 1
    ;;
*" status:$part "*)
    echo "pass x_test 1" >"$out"
    exit 1
    ;;
*" silent:$part "*)
    exit 0
    ;;
esac
echo "pass x_test 1" >"$out"
"""

    def setUp(self):
        self.top = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.top)
        for name in ("bin", "kselftests", "scripts/rig"):
            os.makedirs(self.path(name))
        for name in ("lib.sh", "parts.sh", "tests.sh", "results.py"):
            shutil.copy(os.path.join(SCRIPTS, name), self.path("scripts", name))
        shutil.copytree(os.path.join(SCRIPTS, "results"), self.path("scripts", "results"),
                        ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("test.sh", "silicon.sh", "check.sh"):
            self.write(("scripts", name), self.STUB)
        self.write(("bin", "make"), '#!/bin/sh\necho "$@" >>"$TOP/made"\n')
        # The real one would have each part wait a second twice.
        self.write(("bin", "sleep"), "#!/bin/sh\nexec /bin/sleep 0.05\n")
        self.write(("bin", "nproc"), "#!/bin/sh\necho 2\n")
        self.write((".gitignore",), "/build/\n/ran\n/made\n/fail\n/edit\n/bin/\n")
        self.write(("scripts", "rig", "run.sh"), "")
        self.write(("kselftests", "list"), "x_test\n")
        self.write(("kselftests", "list.bochs"), "x_test\n")
        self.write(("kselftests", "list.soak"), "fuzz: y_test 60 @\nipi: z_test\n")
        subprocess.run(["git", "init", "-q", self.top], check=True)
        subprocess.run(["git", "-C", self.top, "-c", "user.name=x", "-c", "user.email=x@x",
                        "commit", "-q", "--allow-empty", "-m", "x"], check=True)

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
            [self.path("scripts", "tests.sh"), *args], check=False, text=True,
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
        self.assertEqual((status, len(ran)), (1, 15), self.output)
        self.assertEqual(out[-1], "14 passed, 1 failed, 0 skipped")
        os.remove(self.path("fail"))

        # What failed runs again, and it alone; the count is of all.
        self.read("made")
        status, out, ran, _ = self.run_tests("full")
        self.assertEqual((status, ran), (0, ["amd-debug"]), self.output)
        self.assertEqual(out[-1], "15 passed, 0 failed, 0 skipped")
        made = self.read("made")[0].split()
        self.assertIn("kernel-debug", made)
        self.assertNotIn("kernel-stock-rig", made)

        # Nothing changed: nothing runs, nothing is built.
        status, out, ran, _ = self.run_tests("full")
        self.assertEqual((status, ran, self.read("made")), (0, [], []), self.output)
        self.assertEqual(out[-1], "15 passed, 0 failed, 0 skipped")
        self.assertEqual(sum(l.startswith("real time") for l in out), 1, self.output)
        self.assertEqual(sum(l.startswith("  ") and "pass" not in l for l in
                             out[out.index("Not run again, as nothing of them has changed "
                                           "since they passed:"):]), 15, self.output)

        # A list changed: the parts with it.  One of them fails, and says so afterwards.
        self.write(("kselftests", "list"), "x_test\ny_test\n")
        self.write(("fail",), "amd")
        status, _, ran, _ = self.run_tests("full", PART="amd,intel")
        self.assertEqual((status, ran), (1, ["amd"]), self.output)
        _, out, _, _ = self.run_tests("full", PART="list")
        states = {l.split()[0]: l for l in out}
        self.assertRegex(states["amd"], "failed .*: 0 pass, 1 fail")
        self.assertRegex(states["amd-debug"], "stale .*passed .*changed: list$")
        self.assertRegex(states["check"], "stale .*changed: everything$")
        self.assertRegex(states["intel"], " passed ")
        os.remove(self.path("fail"))

        status, _, ran, _ = self.run_tests("full", PART="intel", FORCE="1")
        self.assertEqual((status, ran), (0, ["intel"]), self.output)
        # What a user sets goes into it, too.
        status, _, ran, _ = self.run_tests("full", PART="intel", APPEND="nosmt")
        self.assertEqual((status, ran), (0, ["intel"]), self.output)

    def test_a_change_while_it_runs(self):
        self.write(("edit",), 'echo "x" >>"$TOP/kselftests/list"\n')
        for _ in range(2):
            status, _, ran, _ = self.run_tests("full", PART="amd")
            self.assertEqual((status, ran), (0, ["amd"]), self.output)
            self.assertIn("amd: not remembered", self.output)

    def test_nothing_is_left_when_interrupted(self):
        self.write(("edit",), 'echo $$ >"$TOP/.pid"; mv "$TOP/.pid" "$TOP/pid"; exec /bin/sleep 60\n')
        with subprocess.Popen([self.path("scripts", "tests.sh")], stdout=subprocess.DEVNULL,
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
        self.assertEqual((status, len(lines)), (0, 5), self.output)
        self.assertEqual(lines[2:], ["y_test 60 1", "y_test 60 2", "y_test 60 3"])
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
