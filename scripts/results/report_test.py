#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Test of "make report": a page of made-up reports of each kind, in a real browser."""

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
from results import document, page, records, report, samples  # noqa: E402  this folder

TOP = os.path.dirname(SCRIPTS)


RESULTS = [{"run": "amd", "result": "pass", "name": "x_test", "seconds": 1, "reason": ""},
           {"run": "amd", "result": "fail", "name": "y_test", "seconds": 2, "reason": "oh"},
           {"run": "amd", "seconds": 9, "status": 1}]
# Two loads and one with devices have exits and kicks; one figure for each of the others.
FIGURES = 2 * (2 + 2) + 2 + 5


class Report(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)
        for name, document in samples.REPORTS:
            records.save(self.path(name + ".json"), document)
        os.makedirs(self.path("test-host", "disks", "tap"))
        with open(self.path("test-host", "disks", "tap", "churn.jsonl"), "w",
                  encoding="utf-8") as file:
            for us in (1000, 2000, 3100):
                file.write(json.dumps({"errno": 0, "claim_us": us}) + "\n")
        with open(self.path("tests.results.jsonl"), "w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in RESULTS)

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def test_page(self):
        figures, sections = report.build(TOP, self.dir, self.path("index.html"))
        self.assertEqual((figures, sections), (FIGURES, 8))
        with open(self.path("index.html"), encoding="utf-8") as file:
            text = file.read()
        self.assertEqual(text.count("<figure "), figures)
        for what in ("an &lt;odd&gt; one", "y_test", "make demo PLATFORM=intel"):
            self.assertIn(what, text)
        faults = page.look(self.path("index.html"), self.path("index.png"))
        self.assertIsNotNone(faults, "no browser: scripts/build/deps.sh report")
        self.assertEqual(faults, [])
        self.assertGreater(os.path.getsize(self.path("index.png")), 10000)

    def test_the_browser_finds_faults(self):
        report.build(TOP, self.dir, self.path("index.html"))
        with open(self.path("index.html"), encoding="utf-8") as file:
            text = file.read()
        for what, by, pattern in (
                ('id="value_1"', 'id="other"', "figure-1 shows"),
                ("<script>document.", "<script>nothing.", "has not run|console"),
                ("<nav>", '<img src="https://example.org/x.png"><nav>', "not self-contained")):
            with open(self.path("bad.html"), "w", encoding="utf-8") as file:
                file.write(text.replace(what, by, 1))
            faults = page.look(self.path("bad.html"), self.path("bad.png"))
            self.assertRegex("\n".join(faults), pattern)

    def test_the_same_reports_make_the_same_page(self):
        pages = []
        for name in ("a.html", "b.html"):
            report.build(TOP, self.dir, self.path(name))
            with open(self.path(name), encoding="utf-8") as file:
                pages.append(file.read())
        self.assertEqual(pages[0], pages[1])

    def test_document(self):
        shutil.copy(os.path.join(TOP, "Documentation", "results.md"), self.path("results.md"))
        os.remove(self.path("demo-intel.json"))
        with open(self.path("results.md"), encoding="utf-8") as file:
            before = file.read()
        written = document.update(self.path("results.md"), self.dir)
        self.assertEqual(written, ["demo-amd", "devices-vtd", "latency-intel", "quiet", "host"])
        with open(self.path("results.md"), encoding="utf-8") as file:
            after = file.read()
        for line in ("redis, 100 requests, 0 failed: 905 exits, and 6 in exclusive mode (0.66%).",
                     "| interrupt | 900 | 0 |  |", "| nvme | 100 | 9 | 9 | 9 | 0 | 905 | 5 |",
                     "| hypercall | 900 | 9 | 9 | - |", "| `x` | 3 | <= | 2 |"):
            self.assertIn(line + "\n", after)
        part = slice(before.index("<!-- demo-intel -->"), before.index("<!-- /demo-intel -->"))
        self.assertIn(before[part], after)
        document.update(self.path("results.md"), self.dir)
        with open(self.path("results.md"), encoding="utf-8") as file:
            self.assertEqual(file.read(), after)

    def test_without_reports(self):
        empty = self.path("empty")
        os.makedirs(empty)
        with self.assertRaisesRegex(ValueError, "no reports in"):
            report.build(TOP, empty, self.path("index.html"))
        done = subprocess.run([os.path.join(SCRIPTS, "results.py"), "report", TOP, empty,
                               self.path("index.html"), self.path("index.png")],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 2)


if __name__ == "__main__":
    unittest.main()
