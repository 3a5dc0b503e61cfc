# SPDX-License-Identifier: GPL-2.0
"""Raw records, one JSON object a line, and what every judge does with files."""

import json
import os

# What reading what a crash has left, or has not, may raise.
UNREADABLE = (ValueError, LookupError, TypeError, ArithmeticError, OSError)


def lines_of(path):
    """The lines of a file that may not be there, or hold what a crash left in it."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return [line.rstrip("\n") for line in file if line.strip()]
    except FileNotFoundError:
        return []


def text_of(path):
    """A whole file; it must be there."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def read(path):
    """The records of a file that may not be there.

    A line that is no JSON object is an error: a writer that was interrupted has left its
    file without the record that says it came to its end, and that is looked for.
    """
    found = []
    for number, line in enumerate(lines_of(path), 1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError("%s:%d: %s" % (path, number, error)) from error
        if not isinstance(record, dict):
            raise ValueError("%s:%d: not a record" % (path, number))
        found.append(record)
    return found


def of_kind(records, kind):
    return [record for record in records if record.get("kind") == kind]


def load(path):
    """A JSON document, None where there is none, or one that a crash has cut off."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):
        return None


def save(path, document, indent=2):
    """Write a JSON document; what is there is the old one or the new one, whole."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(document, file, indent=indent)
        file.write("\n")
    os.replace(path + ".new", path)


def release_of(console):
    """The kernel's release, as a host's console has it."""
    for line in lines_of(console):
        _, found, rest = line.partition("Linux version ")
        if found and rest.strip():
            return rest.split()[0]
    return "unknown"
