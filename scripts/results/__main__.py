# SPDX-License-Identifier: GPL-2.0
"""Judge what was measured.

  results.py exits DIR PLATFORM MAX_SHARE JSON
      A demo's exits by reason. MAX_SHARE is how many percent of stock's may be left in
      exclusive mode, "" for any number.
  results.py latency DIR PLATFORM SAMPLES JSON
      What "make latency" measured in Bochs.
  results.py quiet DIR POINTS FLAVOUR BROADCAST FAILURES JSON
      What "make quiet" measured. DIR has a directory of each host.
  results.py host DIR JSON
      What "make host" did.
  results.py report TOP DIR PAGE PICTURE
      One HTML page of the reports in DIR, and its picture by a browser, if there is one.
  results.py document FILE DIR
      Write the reports in DIR into their places in FILE.

  results.py plan FILE JSON SOURCE platform=NAME flavour=NAME [KEY=VALUE...]
      Which tests of SOURCE, a group of kselftests/tests or a file of that form, run there:
      FILE for scripts/test/host/run-plan.sh, JSON for what judges them. lists.py has the keys.
  results.py tests SOURCE...
      The tests of SOURCE, one a line; "-NAME" is left out.
  results.py programs SOURCE...
      The programs of those that are run.
  results.py hashes
      Of each group "tests-GROUP HASH", of what its lines say.

  results.py judge KERNEL_TREE DIR
      The results of a plan, from what a host has left in DIR.
  results.py control KERNEL_TREE UNPATCHED PATCHED
      The same of the control: what the tests did on the two kernels, compared.
  results.py result RESULT NAME [REASON]
      One result.
  results.py run PART SECONDS STATUS RESULTS
      The results of a part, with its name, and its end.

  results.py summary RESULTS [NAME]
      One run of tests: what did not pass, and how many did.
  results.py table RESULTS [TIMES]
      Several runs side by side, and what was built for them.
  results.py record DIR PART INPUTS RESULTS
      Remember how a part of the tests ended, and what went into it.
  results.py show DIR PART
      The results that are remembered of it.
  results.py states DIR INPUTS_DIR
      Of each part that begins a line of the input whether it has to run: "PART passed
      WHEN", else "stale", "failed" or "never", and more.  INPUTS_DIR has its INPUTS.
  results.py parts DIR INPUTS_DIR
      The same to look at, with what it took; its minutes follow the part in the input.
  results.py log FILE RESULTS NAME=VALUE...
      Add a line of JSON for each run to a log.

Results are lines of JSON: Documentation/testing.md, "Results".
Text goes to standard output, JSON is a file to be written. The status is 0 when all that
is judged is good, 1 when it is not, 2 when it cannot be read.
"""

import inspect
import sys

from . import judge, lists, records, tests


def show(judged):
    lines, good = judged
    print("\n".join(lines))
    return not good


# What a command does not need it does not wait for.
def do_exits(directory, platform, max_share, output):
    from . import exits
    return show(exits.judge(directory, platform, float(max_share) if max_share else None, output))


def do_latency(directory, platform, samples, output):
    from . import latency
    return show(latency.judge(directory, platform, int(samples), output))


def do_quiet(directory, points, flavour, broadcast, failures, output):
    from . import quiet
    return show(quiet.judge(directory, [int(point) for point in points.split()], flavour, broadcast,
                            failures, output))


def do_host(directory, output):
    from . import host
    return host.do_host(directory, output)


def do_report(top, directory, path, picture):
    from . import page, report
    print("%d figures in %d sections" % report.build(top, directory, path))
    faults = page.look(path, picture)
    if faults is None:
        print("no browser has looked at it; \"scripts/build/deps.sh report\" installs one")
    for fault in faults or []:
        print("FAIL: " + fault)
    return bool(faults)


def do_document(path, directory):
    from . import document
    written = document.update(path, directory)
    print("results: wrote %s" % (", ".join(written) or "nothing: there are no reports"))
    return not written


COMMANDS = {"exits": do_exits, "latency": do_latency, "quiet": do_quiet,
            "host": do_host,
            "report": do_report, "document": do_document,
            "plan": lists.do_plan, "tests": lists.do_tests, "programs": lists.do_programs,
            "hashes": lists.do_hashes,
            "judge": judge.do_judge, "control": judge.do_control,
            "result": tests.do_result, "run": tests.do_run,
            "summary": tests.do_summary, "table": tests.do_table,
            "record": tests.do_record, "show": tests.do_show, "states": tests.do_states,
            "parts": tests.do_parts, "log": tests.do_log}


def main(argv):
    try:
        command = COMMANDS[argv[0]]
        inspect.signature(command).bind(*argv[1:])
    except (IndexError, KeyError, TypeError):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        return int(command(*argv[1:]))
    except records.UNREADABLE as error:
        print("results: %s: %s" % (type(error).__name__, error), file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
