#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Tests of what counts exits (measure/exits.py) and of what judges measurements (results)."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
SCRIPTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, SCRIPTS)
from results import exits, forms, host, kicks, latency, quiet, records  # noqa: E402  this folder

EXITS = os.path.join(SCRIPTS, "bench", "measure", "exits.py")


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

    def report(self, form):
        """What a judge has written."""
        document = records.load(self.path("out.json"))
        self.assertEqual(forms.faults(form, document), [])
        return document

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
            [EXITS, str(os.getpid()), self.path("out"), "--", *command],
            env={**os.environ, "PATH": self.dir + ":" + os.environ["PATH"], "PERF_HOW": how,
                 "PERF_SAYS": says, "TRACING_DIRECTORY": self.path("none")},
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
        self.assertEqual(subprocess.run([EXITS, "x"], capture_output=True,
                                        check=False).returncode, 2)


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
        for name, count in (("ipi_fast", 3), ("kick_timer", 3), ("kick_latency_hist", 2)):
            self.add("exclusive-redis/exits.jsonl",
                     {"kind": "counter", "name": "excl_" + name, "count": count})
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
        self.report("demo")
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

    def test_no_counters(self):
        self.write("exclusive-redis/exits.jsonl", {"kind": "exit", "reason": "nmi", "count": 1})
        self.failed("redis: KVM's own counters were not read in exclusive mode")

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


class Host(Directory):
    def setUp(self):
        super().setUp()
        self.claims = [{"claim": n, "errno": 0, "obstacle": 0, "id": 0, "name": "",
                        "claim_us": 1000 + n, "release_us": 900, "irqs_on_owned": 0}
                       for n in range(3)]
        self.fio = {"error": 0, "total_err": 0, **{
            side: {"total_ios": 50, "clat_ns": {"max": 2500000}} for side in ("read", "write")}}
        self.write("disks/tap/iperf.jsonl", {"end": {"sum_sent": {"bytes": 7}}})
        self.write("disks/plan.jsonl", {"test": "x_test 1", "what": "core 1, core 2: disks"})
        self.write("results.jsonl",
                   {"result": "pass", "name": "x_test 1", "seconds": 1, "reason": ""})
        self.text("disks/console.log", "[ 1.0] quiet\n")

    def judge(self):
        self.write("disks/tap/churn.jsonl", *self.claims)
        self.text("disks/tap/fio-vda-1.json",
                  "fio: terminating on signal 2\n" + json.dumps({"jobs": [self.fio]}))
        with contextlib.redirect_stdout(io.StringIO()):
            bad = host.do_host(self.dir, self.path("out.json"))
        return bad, self.report("host")

    def test_good(self):
        bad, document = self.judge()
        self.assertFalse(bad)
        self.assertEqual(document, {
            "claims": 3, "refused": [], "ios": 100, "io_errors": 0, "longest_io_ms": 2.5,
            "host_interrupts_on_owned": 0, "bytes_sent": 7, "longest_claim_ms": 1.0,
            "faults": [{"row": row, "test": "x_test", "pass": True}
                       for row in ("core 1", "core 2")]})

    def test_refused(self):
        self.claims[1].update(errno=16, obstacle=5, id=30, name="nvme0q3")
        bad, document = self.judge()
        self.assertTrue(bad)
        self.assertEqual(document["refused"], [{"why": "irq", "culprit": "nvme0q3 30"}])

    def test_what_is_bad(self):
        for change in (lambda: self.claims[2].update(irqs_on_owned=1),
                       lambda: self.fio.update(total_err=1),
                       lambda: self.claims.clear(),
                       lambda: self.write("results.jsonl"),
                       lambda: self.text("disks/console.log",
                                         "[ 1.0] IRQ 30 (x) came to owned CPU 2\n")):
            self.setUp()
            change()
            self.assertTrue(self.judge()[0])


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
        return lines, good, self.report("latency")

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
        self.measured()
        with open(self.path("bare.1.jsonl"), "a", encoding="utf-8") as file:
            file.write("{\"kind\": \"row\", [  12.5] printk\n")
        self.failed("bare, run 1: .*bare.1.jsonl:4: ")
        self.measured()
        self.text("disassembly", "\n".join(DISASSEMBLY[:-1]))
        self.failed("IPI send, self IPI: the way through the disassembly ends nowhere")
        for mode in latency.MODES:
            for run in latency.RUNS:
                self.write("%s.%d.jsonl" % (mode, run), {"kind": "end"})
        self.failed("nothing was measured")


HISTOGRAM = """# event histogram

{ common_cpu:          0, vector:        253, common_stacktrace:
         ipi_nmi_post+0x1/0x2
         native_smp_send_reschedule+0x3/0x4
         try_to_wake_up.part.0+0x9/0x10
         kthread+0x1/0x2
} hitcount:          7
{ common_cpu:          1, vector:        252, common_stacktrace:
         ipi_nmi_post+0x1/0x2
         text_poke_bp_batch+0x1/0x2
         asm_sysvec_call_function+0x1/0x2
         never_its_cause+0x1/0x2
} hitcount:          5

Totals:
    Hits: 12
    Entries: 2
    Dropped: %d
"""


class Quiet(Directory):
    """Each point: what makes it pass, and what makes it fail."""

    def setUp(self):
        super().setUp()
        self.text("broadcast.conf", "# comment\ntext_poke_bp_batch  patching\n")
        self.text("failures", "")

    def host(self, name, *told, end=True):
        self.write("hosts/%s/records.jsonl" % name, *told, *([{"kind": "end"}] if end else []))
        self.text("hosts/%s/console.log" % name, "[ 0.0] Linux version 6.12.9-rig (x)\n")

    def judge(self, point, flavour="exclusive"):
        lines, good = quiet.judge(self.path("hosts"), [point], flavour,
                                  self.path("broadcast.conf"), self.path("failures"),
                                  self.path("out.json"))
        document = self.report("quiet")
        self.assertEqual((document["pass"], document["kernel"]), (good, "6.12.9-rig"))
        this = document["points"][str(point)]
        return good, {c["what"]: c for c in this["checks"]}, this, lines

    def failed(self, point, *what):
        good, checks, _, _ = self.judge(point)
        self.assertFalse(good)
        self.assertEqual([name for name, check in checks.items() if not check["pass"]],
                         list(what))

    def kicks(self, seconds, nmi_exits, dropped=0, stressors=quiet.STRESSORS, loads=3):
        """Phase spin as asked for, phase redis good."""
        self.host("kicks", *({"kind": "stress", "phase": phase, "name": name, "count": 2}
                             for phase, of in (("spin", stressors), ("redis", quiet.STRESSORS))
                             for name in of),
                  {"kind": "loads", "count": loads},
                  {"kind": "kicks", "phase": "spin", "cpus": 3, "seconds": seconds},
                  {"kind": "kicks", "phase": "redis", "cpus": 3, "seconds": 60})
        self.histograms("kicks/kicks-spin", 3, nmi_exits, dropped)
        self.histograms("kicks/kicks-redis", 3, 12)

    def histograms(self, where, cpu, nmi_exits=0, dropped=0, text=HISTOGRAM):
        where = os.path.join("hosts", where)
        os.makedirs(self.path(where), exist_ok=True)
        self.text(where + "/post_%d" % cpu, text % dropped)
        self.text(where + "/send_self_%d" % cpu, text % 0)
        self.text(where + "/on-cpu.kvm_exit",
                  "{ common_cpu:  %d, exit_reason:  97 } hitcount:  %d\n"
                  "{ common_cpu:  %d, exit_reason:  96 } hitcount:  4\n" % (cpu, nmi_exits, cpu))
        for when, count in (("before", 1), ("after", 6)):
            self.write(where + "/handled.%s.json" % when, {"contexts": [
                {"vcpus": [{"kicks": {"timer": count}}]}]})

    def test_evidence_that_is_not_there(self):
        for name in ("post_3", "send_self_3", "on-cpu.kvm_exit"):
            self.kicks(60, 12)
            os.remove(self.path("hosts", "kicks", "kicks-spin", name))
            good, _, point, _ = self.judge(1)
            self.assertFalse(good)
            self.assertIn(name, point["failure"])
        self.kicks(60, 12, stressors=())
        self.failed(1, *("spin." + name for name in quiet.STRESSORS))
        self.host("kicks", {"kind": "loads", "count": 3})
        good, _, point, _ = self.judge(1)
        self.assertEqual((good, point["failure"]), (False, "KeyError: 'spin'"))

    def test_kicks(self):
        self.kicks(60, 12)
        good, checks, point, lines = self.judge(1)
        self.assertTrue(good, lines)
        self.assertEqual((checks["spin.cpu3.kicks_beyond"]["value"],
                          checks["spin.cpu3.nmi_exits_attributed"]["bound"]), (7, 12))
        self.assertEqual({name: point["figures"]["spin.cpu3." + name] for name in (
            "directed_at_every_cpu", "self", "nmi_exits", "exits")},
            {"directed_at_every_cpu": 5, "self": 12, "nmi_exits": 12, "exits": 16})
        self.assertEqual(point["figures"]["spin.handled.contexts.0.vcpus.0.kicks.timer"], 5)
        self.assertIn({"phase": "spin", "count": 7, "cpu": 3, "vector": "RESCHEDULE", "sender": 0,
                       "class": "beyond", "site": "try_to_wake_up", "stack":
                       "try_to_wake_up<kthread"}, point["kicks"])
        self.assertEqual(kicks.cause_of(["asm_exc_nmi", "x"], set()),
                         ("beyond", "unknown", "unknown"))

    def test_too_many_kicks(self):
        self.kicks(6, 12)
        self.failed(1, "spin.cpu3.kicks_beyond")
        self.kicks(60, 13)
        self.failed(1, "spin.cpu3.nmi_exits_attributed")
        self.kicks(60, 12, dropped=1)
        self.failed(1, "spin.sends_not_recorded")
        self.kicks(60, 12, stressors=quiet.STRESSORS[:-1])
        self.failed(1, "spin.stress_ng_switch")
        self.kicks(60, 12, loads=0)
        self.failed(1, "redis.loads")

    def test_hosts_that_did_not_end(self):
        self.kicks(60, 12)
        self.host("kicks", end=False)
        good, _, point, _ = self.judge(1)
        self.assertFalse(good)
        self.assertIn("kicks did not come to its end", point["failure"])
        # What was measured is shown all the same.
        self.kicks(60, 12)
        self.write("failures", {"point": 1, "text": "a splat"})
        good, _, point, _ = self.judge(1)
        self.assertEqual((good, point["failure"]), (False, "a splat"))
        self.assertTrue(point["kicks"])
        self.text("failures", "{\"point\": 1, \x07")
        good, _, point, _ = self.judge(1)
        self.assertFalse(good)
        self.assertIn("failures:1", point["failure"])

    # What rtla has recorded before the mark is not looked at, and its start is the noisiest.
    HEAD = ("# tracer: %s\n#\n#           TASK-PID      CPU# |||||   TIMESTAMP    ID     CONTEXT\n"
            "     kworker/3:1-40      [003] d.h1.    99.100000: irq_noise: local_timer:236 start "
            "99.099990000 duration 9000 ns\n%s"
            "       run-point.sh-180     [001] .....    %.6f: tracing_mark_write: measured\n")

    @classmethod
    def timerlat(cls, latency, noises=0, cpus=(3,), count=2000, step=0.001):
        """A trace of so many periods.  A task's name looks like the head of a line."""
        yield cls.HEAD % ("timerlat", "          <idle>-0       [003] d.h1.    99.200000: "
                          "#9     context    irq timer_latency  99999999 ns\n", 100)
        for i in range(count):
            for cpu in cpus:
                when = 100.1 + i * step + cpu / 1e6
                yield "          <idle>-0       [%03d] d.h1.   %.6f: #%-5d context    irq " \
                    "timer_latency %9d ns" % (cpu, when, i, latency)
                yield "          <idle>-0       [%03d] d.h1.   %.6f: irq_noise: local_timer:236 " \
                    "start %.9f duration 9000 ns" % (cpu, when, when)
                yield "      timerlat/%d-1234    [%03d] .....   %.6f: #%-5d context thread " \
                    "timer_latency %9d ns" % (cpu, cpu, when, i, latency)
                yield "      timerlat/%d-1234    [%03d] .....   %.6f: thread_noise: " \
                    "a-1 [9] b 1.0: :7 start %.9f duration 9000 ns" % (cpu, cpu, when, when)
                if i < noises:
                    yield "      timerlat/%d-1234    [%03d] .....   %.6f: softirq_noise: TIMER:1 " \
                        "start %.9f duration 900 ns" % (cpu, cpu, when, when)

    @classmethod
    def osnoise(cls, interrupts, periods=30):
        """A trace of so many periods behind the one in which the mark was set."""
        period = "       osnoise/3-1234    [003] .....   %.6f: 1000000 %10d  99.99950 %7d %6d " \
            "%6d %6d %6d %6d"
        yield cls.HEAD % ("osnoise", period % (99.5, *[900] * 7) + "\n", 100)
        for i in range(periods + 1):
            # All events of osnoise, as rtla records them.  Of those that hold so many numbers
            # as a period none is one.
            at = 100.2 + i
            for event in ("sample_threshold: start 100.123456789 duration 1234 ns interference 1",
                          "irq_noise: local_timer:236 start 100.123456789 duration 1234 ns",
                          "nmi_noise: start 100.123456789 duration 1234 ns",
                          "softirq_noise: 1 2 3 start 100.123456789 duration 1234 ns",
                          "thread_noise: 1000000 1 99.9 1 5 0 7 7 7 7:9 start 100.123456789 "
                          "duration 1234 ns"):
                yield "    1000000 1 99-9      [003] d.h1.   %.6f: %s" % (at, event)
            # The first one began before the mark.
            yield period % (at, 5, 1, 4, 0, 900 if not i else interrupts if i == 1 else 0, 0, 0)

    def noise(self, owned, boot, periods=30, samples=2000):
        for mode, noises in (("owned", owned), ("boot", boot)):
            names = {"osnoise": 1000000, "timerlat": 1000}
            self.host("noise-" + mode, *(
                {"kind": "lost", "name": "%s.%s.lost" % (tracer, mode), "count": 0}
                for tracer in names), *(
                {"kind": "traced", "name": "%s.%s" % (tracer, mode), "cpus": 3, "seconds": 30,
                 "period_us": period} for tracer, period in names.items()))
            self.text("hosts/noise-%s/osnoise.%s" % (mode, mode),
                      "\n".join(self.osnoise(noises, periods if mode == "owned" else 30)))
            self.text("hosts/noise-%s/timerlat.%s" % (mode, mode), "\n".join(self.timerlat(
                900, noises, count=samples if mode == "owned" else 3000)))

    def test_noise(self):
        self.noise(3, 4, samples=3000)
        good, checks, point, lines = self.judge(2)
        self.assertTrue(good, lines)
        self.assertEqual((checks["osnoise.interference"]["value"],
                          checks["timerlat.interference"]["value"]), (3, 3))
        # 4 and three times the root of 5.
        self.assertEqual(checks["osnoise.interference"]["bound"], 10)
        self.assertEqual({name: point["figures"]["osnoise.owned." + name] for name in (
            "periods", "hw", "nmi", "irq", "softirq", "thread")},
            {"periods": 30, "hw": 120, "nmi": 0, "irq": 3, "softirq": 0, "thread": 0})
        self.assertEqual(point["figures"]["timerlat.boot.thread_p999_ns"], 900)
        self.assertEqual(point["figures"]["timerlat.boot.thread_max_ns"], 900)
        self.assertEqual({name: point["figures"]["timerlat.boot." + name] for name in (
            "own_runs", "own_interrupts", "irq", "thread", "softirq")}, {
            "own_runs": 3000, "own_interrupts": 3000, "irq": 3000, "thread": 3000, "softirq": 4})
        self.noise(11, 4, samples=3000)
        self.failed(2, "osnoise.interference", "timerlat.interference")

    def test_noise_that_was_not_recorded(self):
        self.noise(3, 4, periods=24, samples=3000)
        self.assertTrue(self.judge(2)[0])
        # What is quiet because nothing ran is not quiet.
        for periods in (23, 0):
            self.noise(0, 4, periods=periods, samples=3000)
            self.failed(2, "osnoise.owned.periods")
        self.noise(3, 4, samples=2999)
        self.failed(2, "timerlat.owned.periods")
        self.noise(3, 4, samples=3000)
        where = os.path.join("hosts", "noise-owned", "timerlat.owned")
        text = records.text_of(self.path(where))
        self.text(where, text.replace("context thread", "context user-ret"))
        self.failed(2, "timerlat.owned.periods", "timerlat.interference")
        self.noise(0, 4, samples=0)
        self.failed(2, "timerlat.owned.periods")
        for trace in ("osnoise.owned", "timerlat.owned"):
            self.noise(3, 4, samples=3000)
            where = os.path.join("hosts", "noise-owned", trace)
            text = records.text_of(self.path(where))
            for found, change in (
                    (trace + ": no mark", lambda path, _: os.remove(path)),
                    (trace + ": no mark", lambda _, text: self.text(
                        where, text.replace("tracing_mark_write", "other"))),
                    (trace + ": CPU:3 [LOST 5 EVENTS]", lambda _, text: self.text(
                        where, text + "\nCPU:3 [LOST 5 EVENTS]\n")),
                    (trace + ": CPU:3 [LOST EVENTS]", lambda _, text: self.text(
                        where, text + "\nCPU:3 [LOST EVENTS]\n"))):
                change(self.path(where), text)
                good, _, point, _ = self.judge(2)
                self.assertFalse(good)
                self.assertIn(found, point["failure"])
        # Nobody knows for how long it ran.
        self.noise(3, 4, samples=3000)
        self.host("noise-owned")
        good, _, point, _ = self.judge(2)
        self.assertEqual((good, point["failure"]), (False, "KeyError: 'osnoise.owned'"))

    def rcu(self, spin, stalls=0):
        self.host("rcu", {"kind": "kicks", "phase": "spin", "cpus": 1, "seconds": 9},
                  {"kind": "stalls", "count": stalls},
                  *({"kind": "grace", "state": state, "phase": phase, "grace": grace,
                     "ns": ns + phase}
                    for grace in ("normal", "expedited") for phase in range(24)
                    for state, ns in [("idle", 1000) if phase % 2 else ("spin", spin)]
                    for _ in range(5)))
        self.histograms("rcu/kicks-spin", 1, text=HISTOGRAM.replace("kthread", "rcu_kick")
                        if stalls else HISTOGRAM)

    def test_grace_periods(self):
        self.rcu(1000)
        good, checks, point, lines = self.judge(3)
        self.assertTrue(good, lines)
        self.assertEqual(point["figures"]["normal.spin.samples"], 60)
        self.rcu(2000)
        self.failed(3, "normal.spin_over_idle_z", "expedited.spin_over_idle_z")
        self.rcu(1000, stalls=1)
        self.failed(3, "kicks_of_rcu", "stall_warnings")

    def cycles(self, latency, cpus=(0, 1), count=3000, **tasks):
        self.host("cycles", *({"kind": "stress", "phase": "cycles", "name": name, "count": 2}
                              for name in quiet.STRESSORS),
                  *({"kind": "traced", "name": mode, "cpus": "0,1", "seconds": 60,
                     "period_us": 2000} for mode in ("with", "without")),
                  {"kind": "figure", "name": "seconds", "value": 60},
                  {"kind": "tasks", "alive": 60, "all": 60, "home": 20, "tied": 20, **tasks})
        self.text("hosts/cycles/timerlat.with", "\n".join(
            self.timerlat(latency, cpus=cpus, count=count)))
        self.text("hosts/cycles/timerlat.without", "\n".join(
            self.timerlat(900, cpus=(0, 1), count=3000)))

    def test_cycles(self):
        self.cycles(900)
        good, _, point, lines = self.judge(4)
        self.assertTrue(good, lines)
        self.assertEqual(point["figures"]["seconds"], 60)
        self.assertEqual(point["figures"]["with.irq_samples"], 6000)
        self.cycles(901)
        self.failed(4, "irq_spikes", "thread_spikes")
        self.cycles(900, alive=59, home=19)
        self.failed(4, "tasks_alive", "tasks_home")
        # Where nothing was measured, nothing is above the bound.
        for count in (2999, 0):
            self.cycles(900, count=count)
            self.failed(4, "with.periods")
        self.cycles(900, cpus=(0,))
        self.failed(4, "with.periods")

    def cputime(self, name, phase, idle0=2000, **thread):
        where = "hosts/%s/cputime-%s" % (name, phase)
        os.makedirs(self.path(where), exist_ok=True)
        self.host(name, {"kind": "cputime", "phase": phase, **thread})
        self.text(where + "/stat.before", "now 100.00\n" + "".join(
            "cpu%d 0 0 0 0 0 0 0 0 0 0\n" % cpu for cpu in range(4)))
        self.text(where + "/stat.after", "now 120.00\ncpu0 0 0 0 %d 0 0 0 0 0 0\n"
                  "cpu1 1000 0 0 1000 0 0 0 0 0 0\ncpu2 0 0 0 2000 0 0 0 0 0 0\n"
                  "cpu3 2000 0 0 0 0 0 0 0 2000 0\n" % idle0)
        self.text(where + "/switches",
                  "  x-1 [001] d..2. 105.000000: sched_switch: prev_comm=s prev_pid=0 "
                  "prev_prio=1 ==> next_comm=x next_pid=9 next_prio=1\n"
                  "  x-9 [001] d..2. 115.000000: sched_switch: prev_comm=x prev_pid=9 "
                  "prev_prio=1 ==> next_comm=s next_pid=0 next_prio=1\n")

    def test_cputime(self):
        whole = 20 * 10 ** 9
        thread = {"wall": whole, "user": whole, "system": 0, "guest": whole, "run": whole}
        self.cputime("cputime", "guest", **thread)
        good, checks, point, lines = self.judge(5)
        self.assertTrue(good, lines)
        self.assertEqual(point["figures"]["guest.cpu1.tasks_ms"], 10000)
        self.cputime("cputime", "guest", idle0=1975, **thread)
        self.failed(5, "guest.cpu0.idle_off_percent")
        # The same kernel is off by as much without the series.
        self.cputime("cputime-boot", "boot", idle0=1980)
        good, checks, _, _ = self.judge(5)
        self.assertTrue(good)
        self.assertEqual(checks["guest.cpu0.idle_off_percent"]["bound"], 2)
        self.cputime("cputime", "guest", **{**thread, "guest": whole // 2})
        self.failed(5, "guest.thread.guest_off_percent")

    def test_instructions(self):
        def count(mean):
            return {"kind": "count", "what": "tick", "n": 9, "min": 1, "median": 2, "mode": 2,
                    "often": 3, "mean": mean}
        self.host("count-stock", count(1000))
        self.host("count-patched", count(1005))
        good, _, point, lines = self.judge(6)
        self.assertTrue(good, lines)
        self.assertEqual(point["figures"]["tick.patched.mean"], 1005)
        self.host("count-patched", count(1005.1))
        self.failed(6, "tick.more_percent")


if __name__ == "__main__":
    unittest.main()
