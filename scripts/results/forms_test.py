#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""See that the reports have the forms that others rely on: those that there are here, too."""

import copy
import glob
import os
import sys
import unittest

sys.dont_write_bytecode = True
SCRIPTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, SCRIPTS)
from results import forms, records, samples  # noqa: E402  this folder

REPORTS = os.path.join(os.path.dirname(SCRIPTS), "build", "report", "*.json")


class Forms(unittest.TestCase):
    def test_samples(self):
        for name, document in samples.REPORTS:
            self.assertEqual(forms.faults(forms.form_of(name), document), [], name)

    def test_reports_that_there_are(self):
        for path in glob.glob(REPORTS):
            name = os.path.basename(path)[:-len(".json")]
            with self.subTest(name):
                self.assertIsNotNone(forms.form_of(name), "%s has no form" % name)
                self.assertEqual(forms.faults(forms.form_of(name), records.load(path)), [])

    def test_differences_are_found(self):
        for name, document in samples.REPORTS:
            for key in document:
                other = copy.deepcopy(document)
                other["renamed"] = other.pop(key)
                self.assertEqual(sorted(forms.faults(forms.form_of(name), other)),
                                 ["document has no " + key,
                                  "document has renamed, which is not in its form"])

    def test_inside(self):
        form = {"rows": [{"name": None, "counts": {forms.ANY: None}}], "failure": None}
        for document, told in (
                ({"rows": []}, []),
                ({"rows": [{"name": 1, "counts": {"x": 1}}], "failure": "x"}, []),
                ({"rows": {}}, ["document.rows is no list"]),
                ({"rows": [3]}, ["document.rows[0] is no object"]),
                ({"rows": [{"name": 1}]}, ["document.rows[0] has no counts"]),
                ([], ["document is no object"])):
            self.assertEqual(forms.faults(form, document), told)


if __name__ == "__main__":
    unittest.main()
