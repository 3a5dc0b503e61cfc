#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Tests of what counts exits (measure/exits.py) and of what judges measurements (results)."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
from results import exits, latency, records  # noqa: E402  beside this file

SCRIPTS = os.path.dirname(os.path.abspath(__file__))


class Directory(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def write(self, name, *told):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in told)

    def text(self, name, text, mode=0o644):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.path(name), mode)


class Records(Directory):
    def test_read(self):
        self.write("a", {"kind": "x", "n": 1}, {"kind": "y"})
        self.assertEqual(records.of_kind(records.read(self.path("a")), "x"),
                         [{"kind": "x", "n": 1}])
        self.assertEqual(records.read(self.path("none")), [])

    def test_what_is_no_record_is_named(self):
        for text in ('{"a": 1}\n{"b"', "[1]\n", "1\n"):
            self.text("a", text)
            with self.assertRaisesRegex(ValueError, "a:[12]: "):
                records.read(self.path("a"))

    def test_save_replaces(self):
        records.save(self.path("d", "x.json"), {"a": 1})
        records.save(self.path("d", "x.json"), {"a": 2})
        self.assertEqual(records.load(self.path("d", "x.json")), {"a": 2})
        self.assertEqual(os.listdir(self.path("d")), ["x.json"])


# The real one's table, and what it says to each command of its control pipe.
PERF = r"""#!/usr/bin/python3
import os, signal, sys, time
if sys.argv[1:3] == ["kvm", "-i"]:
    print(os.environ.get("PERF_SAYS", ""))
    print('''
             VM-EXIT    Samples  Samples%     Time%    Min Time    Max Time         Avg time

                 msr      75856    42.35%    33.12%     10.00us   9000.00us     21.00us ( +-   0.83% )
           write cr0          2     0.00%     0.01%      1.00us      2.00us      1.50us ( +-   0.00% )

Total Samples:75858, Total events handled time:4803920.32us.
''')
    sys.exit()
how = os.environ.get("PERF_HOW", "")
ctl, ack = (os.open(p, os.O_RDWR) for p in sys.argv[-1].split(":")[1].split(","))
signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
n = 0
while True:
    os.read(ctl, 100)
    n += 1
    if how == "dies" and n == 2:
        print("out of luck")
        sys.exit(7)
    os.write(ack, b"no\n\0" if how == "refuses" else b"ac")
    # Longer than a second: what was read of it is not to be lost.
    time.sleep(1.2 if how == "slow" else 0)
    os.write(ack, b"k\n\0")
"""


class Count(Directory):
    """measure/exits.py with a perf that does as it is told."""

    def count(self, *command, how="", says=""):
        self.text("perf", PERF, 0o755)
        done = subprocess.run(
            [os.path.join(SCRIPTS, "measure", "exits.py"), str(os.getpid()), self.path("out"),
             "--", *command],
            env={**os.environ, "PATH": self.dir + ":" + os.environ["PATH"], "PERF_HOW": how,
                 "PERF_SAYS": says},
            capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stderr, records.read(self.path("out", "exits.jsonl"))

    def test_reasons_and_status(self):
        for how in ("", "slow"):
            status, error, told = self.count("sh", "-c", "exit 3", how=how)
            self.assertEqual((status, error), (3, ""))
            self.assertEqual([(r["reason"], r["count"]) for r in records.of_kind(told, "exit")],
                             [("msr", 75856), ("write_cr0", 2)])

    def test_what_fails_is_named(self):
        status, error, _ = self.count("true", how="dies")
        self.assertEqual(status, 125)
        self.assertIn("perf has ended with status 7: out of luck", error)
        status, error, _ = self.count("true", how="refuses")
        self.assertEqual(status, 125)
        self.assertIn("perf answered \"disable\" with 'no'", error)
        status, error, _ = self.count("true", says="Warning:\nProcessed 9 events and LOST 4 events!")
        self.assertEqual(status, 125)
        self.assertIn("perf LOST 4 events", error)

    def test_usage(self):
        self.assertEqual(subprocess.run([os.path.join(SCRIPTS, "measure", "exits.py"), "x"],
                                        capture_output=True, check=False).returncode, 2)


class Exits(Directory):
    def setUp(self):
        super().setUp()
        for mode, reasons, msrs in (
                ("stock", {"interrupt": 900, "msr": 99, "cpuid": 1}, (("write", 0x838, 90),)),
                ("exclusive", {"cpuid": 1, "nmi": 2}, (("read", 0x3b, 1),))):
            self.add("loads.jsonl", {"mode": mode, "load": "redis", "requests": 1000,
                                     "assigned": False})
            self.result(mode, {})
            self.write("%s-redis/exits.jsonl" % mode,
                       *({"kind": "exit", "reason": r, "count": n} for r, n in reasons.items()),
                       *({"kind": "msr", "access": a, "msr": m, "count": n} for a, m, n in msrs),
                       {"kind": "counter", "name": "exits", "count": 1010})
            self.beats(mode, range(1, 9))
        for when, n in (("before", 1), ("after", 4)):
            self.write("exclusive-redis/status.%s.json" % when, {"contexts": [
                {"unseen_by_perf": n, "kicks": {"timer": n}, "vcpus": [{"kicks": {"timer": n}}]}]})
        self.text("console.log", "[    0.0] Linux version 6.12.9-rig (x@y)\n")

    def add(self, name, record):
        with open(self.path(name), "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def result(self, mode, changed):
        self.write("%s-redis/result.jsonl" % mode,
                   {"load": "redis", "requests": 1000, "failed": 0, "ms": 2000, "timers": 50,
                    "ipis": 5, "devices": 0, **changed})

    def beats(self, mode, numbers, step=1.0):
        self.write("beats-%s.jsonl" % mode,
                   *({"beat": n, "uptime": n * step, "timers": 100 * n} for n in numbers))

    def judge(self, max_share=1.0):
        lines, good = exits.judge(self.dir, "amd", max_share, self.path("out.json"))
        return lines, good, [line for line in lines if line.startswith("FAIL")]

    def test_good(self):
        lines, good, failed = self.judge()
        self.assertEqual((good, failed), (True, []))
        text = "\n".join(lines)
        self.assertIn("linux 6.12.9-rig,", text)
        self.assertIn("  interrupt                     900       900.00          0         0.00   "
                      "100.00%", text)
        self.assertIn("  msr: write TMICT               90", text)
        self.assertIn("NMI kicks: timer 3", text)
        self.assertIn("    nmi                  a kick: host work for the owned CPU", text)
        self.assertEqual(records.load(self.path("out.json")), {
            "platform": "amd", "kernel": "6.12.9-rig", "workloads": [{
                "name": "redis", "requests": 1000, "failed": 0,
                "stock": {"total": 1000, "unseen_by_perf": 0, "kicks": {},
                          "by_reason": {"interrupt": 900, "msr": 99, "cpuid": 1, "nmi": 0}},
                "exclusive": {"total": 3, "unseen_by_perf": 3, "kicks": {"timer": 3},
                              "by_reason": {"interrupt": 0, "msr": 0, "cpuid": 1, "nmi": 2}}}]})

    def test_every_reason_has_words(self):
        for reason in list(exits.SAME) + list(exits.WHY):
            self.assertNotEqual(exits.why(reason), exits.why("no such reason"), reason)

    def failed(self, pattern, max_share=1.0):
        good, failed = self.judge(max_share)[1:]
        self.assertFalse(good)
        self.assertRegex("\n".join(failed), pattern)

    def test_what_must_be_gone(self):
        self.write("exclusive-redis/exits.jsonl",
                   {"kind": "exit", "reason": "EXTERNAL_INTERRUPT", "count": 1},
                   {"kind": "msr", "access": "write", "msr": 0x6e0, "count": 2})
        self.failed("1 exits in exclusive mode for external interrupts")
        self.failed("2 exits in exclusive mode for write TSC_DEADLINE")

    def test_share(self):
        self.failed("6 exits in exclusive mode are not under 0.6% of 1000", 0.6)
        self.assertTrue(self.judge(None)[1])

    def test_lost_and_absent(self):
        self.result("exclusive", {"failed": 2})
        self.failed("redis lost 2 requests in exclusive mode")
        self.result("exclusive", {"timers": 0})
        self.failed("the guest took no timer interrupt")
        os.remove(self.path("stock-redis", "result.jsonl"))
        self.failed("redis: no result in stock mode")
        os.remove(self.path("loads.jsonl"))
        self.failed("nothing was measured")

    def test_devices(self):
        os.remove(self.path("loads.jsonl"))
        self.add("loads.jsonl", {"mode": "exclusive", "load": "redis", "requests": 1000,
                                 "assigned": True})
        self.failed("no interrupt from the assigned device")
        self.result("exclusive", {"devices": 7})
        self.assertTrue(self.judge()[1])
        self.add("exclusive-redis/result.jsonl", {"kind": "host_irqs", "count": 3})
        self.failed("the host took 3 of the device's interrupts")

    def test_the_ordinary_vm(self):
        self.beats("stock", (1, 2, 3, 5, 6, 7))
        self.failed("stock: the ordinary VM noticed: a beat is missing after number 3")
        self.beats("stock", range(1, 4))
        self.failed("only 3 beats")
        self.beats("stock", range(1, 9), step=11)
        self.failed("a pause of 11.00 s")


DISASSEMBLY = """
ffffffff81000000 <__vmx_vcpu_run_exclusive>:
ffffffff81000000:\tpush   %rbp
ffffffff81000003 <vmx_exclusive_vmexit>:
ffffffff81000003:\tpush   %rax
ffffffff81000004:\tnop
ffffffff81000005:\tnop
ffffffff81000006:\tcmp    $0x830,%ecx
ffffffff81000007:\tjne    ffffffff8100000c <x+0x1>
ffffffff81000008:\tbtr    $0xb,%eax
ffffffff81000009:\tjb     ffffffff8100000e <y>
ffffffff8100000a:\twrmsr        # foo
ffffffff8100000b:\tjmp    ffffffff8100000f <z>
ffffffff8100000c:\tcmp    $0x83f,%ecx
ffffffff8100000e:\tmov    %eax,%edx
ffffffff8100000f:\tvmresume
""".splitlines()


class Latency(Directory):
    ROWS = {"timer arm": {"bare": 50, "stock": 900, "exclusive_c": 50, "exclusive": 50},
            "IPI send, unicast physical": {"bare": 1, "stock": 900, "exclusive_c": 400,
                                           "exclusive": 10},
            "IPI send, hypercall to 3": {"stock": 900, "exclusive_c": 400, "exclusive": 40}}

    def measured(self, rows=None, samples=500, runs=latency.RUNS, ended=True):
        self.text("disassembly", "\n".join(DISASSEMBLY))
        for mode in latency.MODES:
            for run in runs:
                self.write("%s.%d.jsonl" % (mode, run),
                           *({"kind": "row", "name": name,
                              "values": [[of[mode] - 1, samples // 4], [of[mode], samples // 2],
                                         [of[mode] + 70, samples // 4]]}
                             for name, of in (rows or self.ROWS).items() if mode in of),
                           *([{"kind": "end"}] if ended else []))

    def judge(self):
        lines, good = latency.judge(self.dir, "intel", 500, self.path("out.json"))
        return lines, good, records.load(self.path("out.json"))

    def test_good(self):
        self.measured()
        lines, good, document = self.judge()
        self.assertTrue(good, lines)
        self.assertEqual((document["pass"], document["failures"]), (True, []))
        row = document["rows"][0]
        self.assertEqual((row["name"], row["stock"], row["bare"], row["bound"], row["pass"]),
                         ("timer arm", 900, 50, 1.02, True))
        self.assertIsNone(document["rows"][2]["bare"])
        path = document["host_instructions_per_ipi"][0]
        self.assertEqual((path["measured"], path["disassembled"], path["bound"]), (9, 9, 60))
        self.assertEqual(path["instructions"],
                         ["push %rax", "nop", "cmp $0x830,%ecx", "jne", "btr $0xb,%eax", "jb",
                          "wrmsr", "jmp", "vmresume"])

    def test_ways(self):
        self.assertEqual(latency.path_of("self-ipi", "intel", DISASSEMBLY)[-3:],
                         ["cmp $0x83f,%ecx", "mov %eax,%edx", "vmresume"])
        self.assertEqual(latency.path_of("unicast-cluster", "intel", DISASSEMBLY)[-2:],
                         ["mov %eax,%edx", "vmresume"])
        self.assertEqual(latency.path_of("self-ipi", "amd-bochs", DISASSEMBLY), [])
        self.assertEqual(latency.path_of("self-ipi", "intel", []), [])

    def failed(self, pattern):
        lines, good, document = self.judge()
        self.assertFalse(good)
        self.assertFalse(document["pass"])
        self.assertRegex("\n".join(lines), pattern)

    def test_bounds(self):
        for exclusive in (52, 48):
            self.measured({**self.ROWS, "timer arm": {**self.ROWS["timer arm"],
                                                      "exclusive": exclusive}})
            self.failed("timer arm: exclusive takes %d, bare 50: more than 1.02" % exclusive)
        self.measured({**self.ROWS, "IPI send, unicast physical": {
            **self.ROWS["IPI send, unicast physical"], "exclusive": 62}})
        self.failed("the host adds 61 instructions, bound 60")

    def test_runs(self):
        self.measured(samples=400)
        self.failed("timer arm: bare lacks samples")
        self.measured()
        self.measured({name: {mode: ticks * 2 for mode, ticks in of.items()}
                       for name, of in self.ROWS.items()}, runs=(2,))
        self.failed("two runs of stock differ by more than 2%: 900 and 1800")
        self.measured(ended=False)
        self.failed("bare, run 2: the guest did not come to its end")
        for mode in latency.MODES:
            for run in latency.RUNS:
                self.write("%s.%d.jsonl" % (mode, run), {"kind": "end"})
        self.failed("nothing was measured")


if __name__ == "__main__":
    unittest.main()
