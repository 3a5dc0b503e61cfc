# SPDX-License-Identifier: GPL-2.0
"""The forms of the reports' JSON documents: which keys each has.

Others read these files, so a form may grow and never loses or renames a key.  In a form a
dict has these keys and no others, ANY stands for all of a dict whose keys are data, a key
in OPTIONAL may be absent, a list has one form for all its elements, and None is a value.
"""

ANY = "*"

KICKS = {ANY: None}
SIDE = {"total": None, "unseen_by_perf": None, "by_reason": {ANY: None}, "kicks": KICKS,
        "device_irqs": None, "host_irqs": None}
DEMO = {"platform": None, "kernel": None, "workloads": [
    {"name": None, "requests": None, "failed": None, "stock": SIDE, "exclusive": SIDE}]}

FORMS = {
    "demo": DEMO,
    "latency": {
        "platform": None, "unit": None, "samples": None, "runs": None,
        "rows": [{"name": None, "stock": None, "exclusive_c": None, "exclusive": None,
                  "bare": None, "bound": None, "pass": None, "run_difference": {ANY: None}}],
        "host_instructions_per_ipi": [
            {"name": None, "measured": None, "bound": None, "disassembled": None,
             "instructions": [None]}],
        "failures": [None], "pass": None},
    "quiet": {
        "flavour": None, "kernel": None, "pass": None,
        "points": {ANY: {
            "name": None, "pass": None, "failure": None,
            "checks": [{"what": None, "value": None, "op": None, "bound": None, "pass": None,
                        "text": None}],
            "figures": {ANY: None},
            "kicks": [{"phase": None, "count": None, "cpu": None, "vector": None,
                       "sender": None, "class": None, "site": None, "stack": None}]}}},
    "host": {
        "claims": None, "refused": [{"why": None, "culprit": None}], "ios": None,
        "io_errors": None, "longest_io_ms": None, "host_interrupts_on_owned": None,
        "bytes_sent": None, "longest_claim_ms": None,
        "faults": [{"row": None, "test": None, "pass": None}]},
    "silicon": {
        "seeds": [None], "ran": {ANY: [None]}, "platforms": [None],
        "ranges": [{ANY: None}],
        "injected": {"late_ipis": None, "late_timers": None, "smis": None,
                     "spurious_nmis": None},
        "tests": {"passed": None, "failed": None},
        "failed": [{"seed": None, "platform": None, "test": None, "reason": None,
                    "again": None}],
        "lost": None, "doubled": None},
    "silicon-mutants": {"mutants": [
        {"mutant": None, "platform": None, "found": None, "seed": None, "seconds": None,
         "how": [None]}]},
}

# Of loads with assigned devices, of a mode that was measured, of a point that failed.
OPTIONAL = {"device_irqs", "host_irqs", "stock", "exclusive", "failure"}


def form_of(name):
    """The name of the form of a report's file, build/report/NAME.json; None: it has none."""
    for prefix, form in (("demo", "demo"), ("devices", "demo"), ("latency", "latency"),
                         ("quiet", "quiet"), ("host", "host"),
                         ("silicon-mutants", "silicon-mutants"), ("silicon", "silicon")):
        if name == prefix or name.startswith(prefix + "-"):
            return form
    return None


def faults(form, document, where=""):
    """Where a document differs from a form, one text for each place."""
    if isinstance(form, str):
        form = FORMS[form]
    if form is None:
        return []
    where = where or "document"
    if isinstance(form, list):
        if not isinstance(document, list):
            return [where + " is no list"]
        return [fault for number, element in enumerate(document)
                for fault in faults(form[0], element, "%s[%d]" % (where, number))]
    if not isinstance(document, dict):
        return [where + " is no object"]
    if ANY in form:
        return [fault for key, value in document.items()
                for fault in faults(form[ANY], value, "%s.%s" % (where, key))]
    found = ["%s has no %s" % (where, key)
             for key in form if key not in document and key not in OPTIONAL]
    for key, value in document.items():
        if key in form:
            found += faults(form[key], value, "%s.%s" % (where, key))
        else:
            found.append("%s has %s, which is not in its form" % (where, key))
    return found
