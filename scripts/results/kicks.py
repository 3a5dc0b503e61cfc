# SPDX-License-Identifier: GPL-2.0
"""Who sent what to owned CPUs, from the kernel's histograms of the functions that send.

A directory has PROBE_CPU for each probe and owned CPU, histograms by sender, vector and
stack; on-cpu.kvm_exit, by CPU and reason of the exit; and handled.before.json and
handled.after.json, of kvm-exclusive status.
"""

import collections
import os
import re

from . import records

VECTORS = {2: "NMI", 236: "LOCAL_TIMER", 240: "POSTED_INTR_NESTED", 241: "POSTED_INTR_WAKEUP",
           242: "POSTED_INTR", 246: "IRQ_WORK", 247: "PLATFORM_IPI", 248: "REBOOT",
           251: "CALL_FUNCTION_SINGLE", 252: "CALL_FUNCTION", 253: "RESCHEDULE"}

# How an IPI is sent, not why; and the probe itself.
PLUMBING = frozenset("""
    ipi_nmi_post ipi_nmi_send ipi_nmi_send_mask ipi_nmi_send_mask_allbutself
    ipi_nmi_send_allbutself ipi_nmi_send_all ipi_nmi_send_self ipi_nmi_send_split
    ftrace_trampoline kprobe_ftrace_handler aggr_pre_handler opt_pre_handler
    optimized_callback kprobe_dispatcher kprobe_trace_func native_smp_send_reschedule
    native_send_call_func_single_ipi native_send_call_func_ipi arch_irq_work_raise
    __smp_call_single_queue send_call_function_single_ipi smp_call_function_many_cond
    generic_exec_single smp_call_function_single smp_call_function_single_async
    on_each_cpu_cond_mask smp_call_function_many smp_call_function __apic_send_IPI
    __apic_send_IPI_mask __apic_send_IPI_self irq_work_queue_on __irq_work_queue_local
    irq_work_queue""".split())

# SVM's code of an exit by an NMI.
NMI_EXIT = 0x61
# What an interrupt has interrupted is no cause.
INTERRUPTED = re.compile(r"asm_(sysvec|common_interrupt|exc)")


def functions_of(path):
    """The functions of a file like broadcast.conf, by which every CPU is asked for."""
    return {line.split()[0] for line in records.lines_of(path) if not line.startswith("#")}


def number(line, key):
    match = re.search(r"(?:^|[^a-z_])%s: *(\d+)" % key, line)
    return int(match.group(1)) if match else 0


def entries_of(text):
    """(sender, vector, stack, count) of each entry of a histogram with stacks."""
    head = None
    stack = []
    for line in text.splitlines():
        if line.startswith("{ "):
            head, stack = (number(line, "common_cpu"), number(line, "vector")), []
        if head is None:
            continue
        if "hitcount:" in line:
            yield (*head, stack, number(line, "hitcount"))
            head = None
        elif re.match(r" *[A-Za-z_]", line):
            stack.append(re.split(r"[.+]", line.split()[0])[0])


def cause_of(stack, everyone):
    """The class of a send, its call site, and the stack without what says nothing."""
    kind = "beyond"
    kept = []
    for symbol in stack:
        if INTERRUPTED.match(symbol):
            break
        if symbol in everyone:
            kind = "everyone"
        if symbol not in PLUMBING:
            kept.append(symbol)
    return kind, kept[0] if kept else "unknown", "<".join(kept) or "unknown"


def handled_of(path):
    """Kicks that owned CPUs have handled, by the path of the value in the status."""
    found = {}
    for n, context in enumerate((records.load(path) or {}).get("contexts", [])):
        for vcpu, of in enumerate(context.get("vcpus", [])):
            for cause, count in of.get("kicks", {}).items():
                found["contexts.%d.vcpus.%d.kicks.%s" % (n, vcpu, cause)] = count
    return found


class Kicks:
    """All sends to some owned CPUs in one phase."""

    def __init__(self, directory, phase, cpus, everyone):
        self.phase = phase
        self.cpus = cpus
        self.by_class = collections.Counter()
        self.sent = collections.Counter()
        self.exits, self.nmi_exits = collections.Counter(), collections.Counter()
        self.dropped = 0
        found = collections.Counter()
        # One that is not there is an error: it would count as none.
        for cpu in cpus:
            for probe in ("post", "send_self"):
                self.read(os.path.join(directory, "%s_%d" % (probe, cpu)), probe == "send_self",
                          cpu, everyone, found)
        for line in records.text_of(os.path.join(directory, "on-cpu.kvm_exit")).splitlines():
            if "exit_reason:" in line:
                cpu, count = number(line, "common_cpu"), number(line, "hitcount")
                self.exits[cpu] += count
                if number(line, "exit_reason") == NMI_EXIT:
                    self.nmi_exits[cpu] += count
        self.list = [dict(zip(("cpu", "vector", "sender", "class", "site", "stack"), key),
                          phase=phase, count=count) for key, count in found.items()]
        before = handled_of(os.path.join(directory, "handled.before.json"))
        self.handled = {path: count - before.get(path, 0) for path, count in handled_of(
            os.path.join(directory, "handled.after.json")).items()}

    def read(self, path, to_self, cpu, everyone, found):
        text = records.text_of(path)
        self.dropped += sum(int(n) for n in re.findall(r"Dropped: *(\d+)", text))
        for sender, vector, stack, count in entries_of(text):
            kind, site, shown = cause_of(stack, everyone)
            if to_self:
                kind = "self"
            else:
                self.sent[cpu] += count
            self.by_class[kind, cpu] += count
            found[cpu, VECTORS.get(vector, str(vector)), sender, kind, site, shown] += count
