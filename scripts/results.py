#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""The command of the package results, beside it."""

import sys

sys.dont_write_bytecode = True
from results.__main__ import main  # noqa: E402  no cache in the source tree

sys.exit(main(sys.argv[1:]))
