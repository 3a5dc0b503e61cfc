#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Count a VM's exits by reason while a command runs, with perf kvm stat.

  exits.py PID DIR -- COMMAND [ARGS...]

PID is the VMM. Works on a real host as well, in stock mode too. Leaves in DIR exits.jsonl,
a record a line:

  {"kind": "exit", "reason", "count"}      what perf kvm stat counted
  {"kind": "msr", "access", "msr", "count"}  MSR exits by register (access: read or write)
  {"kind": "counter", "name", "count"}     KVM's own statistics over the same time

beside report.txt, what perf printed, and record.log, what it said. The status is the
command's; it is 125 when the counting failed, and a sentence says why.
"""

import glob
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback

FAILED = 125
# perf may take long to start on a busy host; an answer that takes longer is none.
PATIENCE_S = 300
WRITING_S = 1200
HIST = "hist:keys=common_pid,write,ecx.hex:size=4096"
TRACING = os.environ.get(
    "TRACING_DIRECTORY", "/sys/kernel/tracing:/sys/kernel/debug/tracing").split(":")


class Failure(Exception):
    pass


def text_of(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


class Perf:
    """perf kvm stat record, switched on and off through its control pipe.

    It starts disabled and acknowledges each command, so that it covers what it is to
    cover and nothing else.
    """

    def __init__(self, pid, directory, work):
        self.log = os.path.join(directory, "record.log")
        self.data = os.path.join(work, "perf.data")
        pipes = [os.path.join(work, name) for name in ("ctl", "ack")]
        for pipe in pipes:
            os.mkfifo(pipe)
        # Both ends are open here, so that neither open waits for the other.
        self.ctl, self.ack = (os.open(pipe, os.O_RDWR) for pipe in pipes)
        self.heard = b""
        # Unless told not to, perf notes each thread's name after it has opened its events,
        # and ends with status 255 and no word when one has gone meanwhile: a VMM's idle
        # workers do.
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["perf", "kvm", "stat", "record", "--synth", "no", "-p", str(pid),
                 "-o", self.data, "--delay=-1", "--control", "fifo:" + ",".join(pipes)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def answer(self, command):
        """A whole line; perf ends it with a zero byte, too."""
        began = time.monotonic()
        while b"\n" not in self.heard:
            waited = time.monotonic() - began
            if self.process.poll() is not None:
                raise Failure("perf has ended with status %d: %s" %
                              (self.process.returncode, text_of(self.log)))
            if waited > PATIENCE_S:
                raise Failure("perf has not acknowledged \"%s\" in %d s; so far it said: %r; %s" %
                              (command, waited, self.heard, text_of(self.log)))
            if select.select([self.ack], [], [], 1)[0]:
                self.heard += os.read(self.ack, 4096).replace(b"\0", b"")
        line, _, self.heard = self.heard.partition(b"\n")
        return line.decode(errors="replace").strip()

    def control(self, command):
        os.write(self.ctl, command.encode() + b"\n")
        answer = self.answer(command)
        if answer != "ack":
            raise Failure("perf answered \"%s\" with %r: %s" %
                          (command, answer, text_of(self.log)))

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(WRITING_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failure("perf has not written its file in %d s" % WRITING_S) from None

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pipe in (self.ctl, self.ack):
            os.close(pipe)

    def report(self, directory):
        """What it counted: reason and number. perf prints it where it prints its warnings."""
        done = subprocess.run(["perf", "kvm", "-i", self.data, "stat", "report", "--stdio"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, check=False)
        text = done.stdout.decode(errors="replace")
        with open(os.path.join(directory, "report.txt"), "w", encoding="utf-8") as file:
            file.write(text)
        if done.returncode:
            raise Failure("perf cannot read what it recorded: " + text)
        lost = re.search("(?i)lost [0-9]+ (events|chunks)", text + text_of(self.log))
        if lost:
            raise Failure("perf " + lost.group(0))
        return reasons_of(text)


def reasons_of(text):
    """Reason and number of each row of perf's table.

    A reason may have blanks, which become underscores; the number is what stands before
    the first percentage.
    """
    found = []
    for words in map(str.split, text.splitlines()):
        at = next((i for i in range(2, len(words)) if re.fullmatch(r"[0-9.]+%", words[i])), 0)
        if at and words[at - 1].isdecimal():
            found.append(("_".join(words[:at - 1]), int(words[at - 1])))
    return sorted(found, key=lambda row: -row[1])


class MsrHistogram:
    """A histogram in the kernel tells MSR exits apart, which perf kvm stat does not.

    Where the kernel has none, or does not let us, there are no records of MSRs.
    """

    def __init__(self, pid):
        tracing = next((path for path in TRACING if os.path.isdir(path + "/events")), "")
        self.event = os.path.join(tracing, "events/kvm/kvm_msr")
        self.pid = pid
        self.on = os.path.exists(os.path.join(self.event, "hist"))
        if self.on:
            try:
                self.trigger(HIST)
            except OSError as error:
                print("exits.py: no MSRs: %s" % error, file=sys.stderr)
                self.on = False

    def trigger(self, text):
        with open(os.path.join(self.event, "trigger"), "w", encoding="ascii") as file:
            file.write(text)

    def counts(self):
        """Other VMs are counted there too: keep what this VMM's threads did."""
        if not self.on:
            return {}
        threads = set(os.listdir("/proc/%d/task" % self.pid))
        found = {}
        for line in text_of(os.path.join(self.event, "hist")).splitlines():
            match = re.search(r"common_pid: *(\d+).*write: *(\d+).*ecx: *([0-9a-fx]+)"
                              r".*hitcount: *(\d+)", line)
            if match and match.group(1) in threads:
                key = ("write" if int(match.group(2)) else "read", int(match.group(3), 16))
                found[key] = found.get(key, 0) + int(match.group(4))
        return found

    def off(self):
        if self.on:
            self.on = False
            self.trigger("!" + HIST)


def counters(pid):
    """KVM's own statistics of the VM; those of its VCPUs are summed up there."""
    found = {}
    for path in glob.glob("/sys/kernel/debug/kvm/%d-*/[a-z]*" % pid):
        value = text_of(path).strip() if os.path.isfile(path) else ""
        if value.isdecimal():
            found[os.path.basename(path)] = int(value)
    return found


def measure(pid, directory, command, out):
    def record(kind, **what):
        out.write(json.dumps({"kind": kind, **what}) + "\n")

    with tempfile.TemporaryDirectory() as work:
        perf = Perf(pid, directory, work)
        histogram = None
        try:
            # Already so; it answers when it has started, which may take a while.
            perf.control("disable")
            histogram = MsrHistogram(pid)
            before = counters(pid)
            perf.control("enable")
            status = subprocess.call(command)
            perf.control("disable")
            after = counters(pid)
            msrs = histogram.counts()
            histogram.off()
            perf.end()
            for reason, count in perf.report(directory):
                record("exit", reason=reason, count=count)
            for (access, msr), count in sorted(msrs.items()):
                record("msr", access=access, msr=msr, count=count)
            for name, value in sorted(after.items()):
                if value != before.get(name, 0):
                    record("counter", name=name, count=value - before.get(name, 0))
        finally:
            try:
                if histogram:
                    histogram.off()
            finally:
                perf.kill()
    return status


def interrupted(number, _frame):
    raise SystemExit(128 + number)


def main(argv):
    if len(argv) < 4 or argv[2] != "--" or not argv[0].isdecimal():
        print(__doc__, file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    os.makedirs(argv[1], exist_ok=True)
    try:
        with open(os.path.join(argv[1], "exits.jsonl"), "w", encoding="utf-8") as out:
            return measure(int(argv[0]), argv[1], argv[3:], out)
    except Failure as error:
        print("exits.py: %s" % error, file=sys.stderr)
    except Exception:  # pylint: disable=broad-except; none is the command's status
        traceback.print_exc()
    return FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
