# SPDX-License-Identifier: GPL-2.0
"""Judge what was measured, and say it: tables, JSON files, the report.

Hosts and guests leave raw records (see records.py) and judge nothing.
"""
