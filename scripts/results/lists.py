# SPDX-License-Identifier: GPL-2.0
"""Which tests run: the one parser of kselftests/tests, and the plan of a run.

Its head has the form.  Whatever is not known there is an error, with file and line.
"""

import collections
import hashlib
import json
import os
import re

TESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "kselftests", "tests")

GROUPS = ("qemu", "smt", "devices", "disks", "bochs", "silicon", "soak-ipi", "soak-storm",
          "soak-fuzz", "soak-kicks", "soak-devices", "host", "control")
PLATFORMS = ("amd", "intel", "amd-bochs")
FLAVOURS = ("exclusive", "debug", "stock", "debian", "debian-rt")
# The rig's own kernels, and of them those without the debug kernel's checks.
KERNELS = {"rig": ("exclusive", "debug", "stock"), "plain": ("exclusive", "stock")}

# Nothing that a shell or JSON would have to quote.
NAME = re.compile(r"[A-Za-z0-9_]+")
WORD = re.compile(r"[A-Za-z0-9_@.,:+/-]+")

Test = collections.namedtuple(
    "Test", "group name left_out required full platform kernel timeout tries what",
    defaults=(False, False, False, None, None, None, 1, ""))


def number(text):
    if not re.fullmatch(r"[1-9][0-9]*", text):
        raise ValueError("a number from 1 on: %s" % text)
    return int(text)


def one_of(*choices):
    def check(text):
        if text not in choices:
            raise ValueError("there is no %s, but %s" % (text, ", ".join(choices)))
        return text
    return check


OPTIONS = {"platform": one_of(*PLATFORMS), "kernel": one_of(*KERNELS), "timeout": number,
           "tries": number}
FLAGS = ("required", "full")


def parse_test(group, line):
    """The test of a line."""
    line, _, what = line.partition("#")
    words = line.split()
    left_out = words[0].startswith("-")
    words[0] = words[0][left_out:]
    if not NAME.fullmatch(words[0]):
        raise ValueError("no name of a test: %s" % words[0])
    if left_out and len(words) > 1:
        raise ValueError("what is left out has no arguments and options")
    options = {}
    arguments = words[:1]
    for word in words[1:]:
        key, is_option, value = word.partition("=")
        if word in FLAGS:
            key, value = word, True
        elif is_option and key in OPTIONS:
            value = OPTIONS[key](value)
        elif is_option:
            raise ValueError("no such option: %s" % word)
        elif options:
            raise ValueError("no such option, or an argument behind one: %s" % word)
        elif not WORD.fullmatch(word):
            raise ValueError("an argument that would have to be quoted: %s" % word)
        else:
            arguments.append(word)
            continue
        if key in options:
            raise ValueError("twice: %s" % key)
        options[key] = value
    return Test(group, " ".join(arguments), left_out, what=what.strip(), **options)


def parse(path, grouped=False):
    """The tests of a file in order; with grouped, each is to have a group."""
    tests = []
    group = None
    seen = set()
    with open(path, encoding="utf-8") as file:
        for at, line in enumerate(file, 1):
            line = line.strip()
            try:
                if line.startswith("["):
                    group = one_of(*GROUPS)(line.partition("#")[0].strip()[1:-1])
                    if group in seen or not re.match(r"\[[^]]*\]\s*(#|$)", line):
                        raise ValueError("a group twice, or no [GROUP]: %s" % line)
                    seen.add(group)
                elif line.partition("#")[0].strip():
                    if grouped and not group:
                        raise ValueError("before the first group")
                    tests.append(parse_test(group, line))
            except ValueError as error:
                raise ValueError("%s:%d: %s" % (os.path.relpath(path), at, error)) from error
    return tests


def find(source):
    """The tests of a group, or of a file of the same form, which need no group there."""
    if source in GROUPS:
        return [test for test in parse(TESTS, True) if test.group == source]
    if not os.path.isfile(source):
        raise ValueError("neither a group of tests nor a file: %s; the groups are %s" % (
            source, ", ".join(GROUPS)))
    return parse(source)


def program(test):
    return test.name.split()[0]


def line_of(test):
    """What a test's line says, however it is written; a comment says nothing."""
    words = ["-" * test.left_out + test.name]
    words += [flag for flag in FLAGS if getattr(test, flag)]
    words += ["%s=%s" % (key, getattr(test, key)) for key in OPTIONS
              if getattr(test, key) != Test._field_defaults[key]]
    return " ".join(words)


def share_of(text):
    """K and N of "K/N"."""
    which, _, of = text.partition("/")
    which, of = number(which), number(of)
    if which > of:
        raise ValueError("a share is K/N, as 1/2: %s" % text)
    return which, of


def select(tests, platform, flavour, full=False, share="1/1"):
    """Those that run there; of a share K/N the K-th of every N."""
    which, of = share_of(share)
    chosen = [test for test in tests if not test.left_out and (full or not test.full) and
              test.platform in (None, platform) and
              (not test.kernel or flavour in KERNELS[test.kernel])]
    return chosen[which - 1::of]


def plan(source, platform, flavour, full="0", share="1/1", rounds="1", at="", limit="60",
         slow="1"):
    """What is planned of a group or file, one record a test.

    An @ is the number of the round, or what "at" says.  limit is for tests that have none, in
    seconds, and slow how many times as long those may take that have one.
    """
    one_of(*PLATFORMS)(platform)
    one_of(*FLAVOURS)(flavour)
    tests = select(find(source), platform, flavour, full != "0", share)
    if not tests:
        raise ValueError("no test of %s is for the platform %s and the kernel %s" % (
            source, platform, flavour))
    # The tree's own need not speak TAP.
    own = {program(test) for test in find("control")}
    return [{"test": test.name.replace("@", at or str(turn)),
             "required": test.required, "tap": program(test) not in own,
             "seconds": test.timeout * number(slow) if test.timeout else number(limit),
             "tries": test.tries, "flavour": flavour, "what": test.what}
            for turn in range(1, number(rounds) + 1) for test in tests]


def host_line(planned):
    """A line of what the host reads."""
    return "%d\t%d\t%s" % (planned["seconds"], planned["tries"], planned["test"])


def do_tests(*sources):
    for source in sources:
        for test in find(source):
            print(line_of(test))
    return False


def do_programs(*sources):
    for name in sorted({program(test) for source in sources for test in find(source)
                        if not test.left_out}):
        print(name)
    return False


def do_hashes():
    tests = parse(TESTS, True)
    for group in GROUPS:
        lines = "".join(line_of(test) + "\n" for test in tests if test.group == group)
        print("tests-%s %s" % (group, hashlib.sha256(lines.encode()).hexdigest()[:16]))
    return False


def do_plan(for_host, for_judge, source, *settings):
    given = dict(setting.split("=", 1) for setting in settings)
    planned = plan(source, **{key: value for key, value in given.items() if value})
    with open(for_host, "w", encoding="utf-8") as file:
        file.writelines(host_line(test) + "\n" for test in planned)
    with open(for_judge, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(test) + "\n" for test in planned)
    return False
