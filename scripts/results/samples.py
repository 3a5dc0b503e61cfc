# SPDX-License-Identifier: GPL-2.0
"""Made-up reports of each kind, for the tests of what reads them."""


def side(interrupts, **more):
    return {"total": interrupts + 5, "by_reason": {"interrupt": interrupts, "cpuid": 5},
            "unseen_by_perf": 1, "kicks": {"timer": 3, "irq_work": 0}, **more}


def devices(interrupts, host):
    return side(interrupts, device_irqs=9, host_irqs=host)


def load(name, of, stock, exclusive):
    return {"name": name, "requests": 100, "failed": 0, "stock": of(*stock),
            "exclusive": of(*exclusive)}


DEMO = {"platform": "amd", "kernel": "6.12-rig", "workloads": [
    load("redis", side, (900,), (0,)), load("nginx", side, (70000,), (0,))]}
DEVICES = {"platform": "amd", "kernel": "6.12-rig", "workloads": [
    load("nvme", devices, (900, 9), (0, 0))]}
LATENCY = {"platform": "intel", "unit": "ticks", "samples": 500, "runs": 2, "rows": [
    {"name": "timer arm", "stock": 900, "exclusive_c": 9, "exclusive": 9, "bare": 9,
     "bound": 1.02, "pass": True, "run_difference": {}},
    {"name": "hypercall", "stock": 900, "exclusive_c": 9, "exclusive": 9, "bare": None,
     "bound": None, "pass": None, "run_difference": {}}],
    "host_instructions_per_ipi": [{"name": "self-ipi", "measured": 51, "bound": None,
                                   "disassembled": 51, "instructions": []}],
    "failures": ["an <odd> one"], "pass": False}
QUIET = {"flavour": "exclusive", "kernel": "6.12-rig", "pass": False, "points": {
    "1": {"name": "kicks", "pass": False, "checks": [
        {"what": "x", "value": 3, "op": "<=", "bound": 2, "pass": False, "text": "too many"}],
        "figures": {}, "kicks": [
            {"phase": "spin", "count": n, "cpu": 3, "vector": "NMI", "sender": 0,
             "class": "beyond", "site": "site_%d" % n, "stack": "a<b"} for n in (1, 2, 3)]}}}
HOST = {"claims": 2, "refused": [], "ios": 5, "io_errors": 0, "longest_io_ms": 1.5,
        "host_interrupts_on_owned": 0, "bytes_sent": 9, "longest_claim_ms": 3.1,
        "faults": [{"row": "core 1", "test": "x_test", "pass": True}]}
SILICON = {"seeds": [1], "platforms": ["intel"], "ran": {}, "ranges": [
    {"platform": "intel", "symbol": "f", "instructions": 9, "nmi": 9, "interrupt": 1}],
    "injected": {"late_ipis": 1, "late_timers": 2, "smis": 3, "spurious_nmis": 4},
    "tests": {"passed": 5, "failed": 0}, "failed": [], "lost": 0, "doubled": 0}

REPORTS = (("demo-amd", DEMO), ("demo-intel", DEMO), ("devices-vtd", DEVICES),
           ("latency-intel", LATENCY), ("quiet", QUIET), ("host", HOST), ("silicon", SILICON))
