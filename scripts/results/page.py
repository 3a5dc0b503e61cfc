# SPDX-License-Identifier: GPL-2.0
"""Look at the report's page in a real browser: it loads, and each figure has its data."""

import html.parser
import os
import re
import signal
import subprocess
import tempfile

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
           "--disable-background-networking", "--disable-component-update", "--disable-quic",
           "--hide-scrollbars", "--enable-logging=stderr", "--v=0", "--disable-dev-shm-usage"]
LIMIT_S = 120


class Figures(html.parser.HTMLParser):
    """What a browser made of the page: of each figure what it says it shows, and shows."""

    def __init__(self):
        super().__init__()
        self.loaded = None
        self.found = []
        self.loads = []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "html":
            self.loaded = attrs.get("data-figures")
        elif tag == "figure":
            self.found.append([attrs.get("id"), int(attrs.get("data-values", 0)), 0])
        elif str(attrs.get("id", "")).startswith("value_") and self.found:
            self.found[-1][2] += 1
        for name in ("src", "href", "xlink:href"):
            if re.match("(https?:)?//", attrs.get(name) or ""):
                self.loads.append(attrs[name])


def faults_of(dom, log):
    """What is wrong with it, a sentence each."""
    figures = Figures()
    figures.feed(dom)
    if figures.loaded is None:
        yield "the page's own script has not run"
    elif int(figures.loaded) != len(figures.found):
        yield "%s of %d figures are drawn" % (figures.loaded, len(figures.found))
    if not figures.found:
        yield "there is no figure"
    for name, values, shown in figures.found:
        if not values or values != shown:
            yield "%s shows %d of %d values" % (name, shown, values)
    for url in figures.loads:
        yield "it is not self-contained: %s" % url
    for line in re.findall(r'CONSOLE.*?"(.*?)", source', log):
        yield "the browser's console: %s" % line


def browse(browser, *args):
    """What it printed, and what it said besides; its children end with it."""
    # They may still write when it has ended.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        with subprocess.Popen([browser, *OPTIONS, "--user-data-dir=" + profile, *args], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              start_new_session=True) as process:
            try:
                out, log = process.communicate(timeout=LIMIT_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise ValueError("%s did not end in %d s" % (browser, LIMIT_S)) from None
        if process.returncode:
            raise ValueError("%s ended with status %d: %s" % (browser, process.returncode,
                                                              log[-500:]))
        return out, log


def look(path, picture):
    """Faults of the page, and its picture; None for the faults where there is no browser."""
    browser = next((os.path.join(where, name) for name in BROWSERS
                    for where in os.get_exec_path()
                    if os.access(os.path.join(where, name), os.X_OK)), None)
    if not browser:
        return None
    url = "file://" + os.path.abspath(path)
    if os.path.exists(picture):
        os.remove(picture)
    try:
        faults = list(faults_of(*browse(browser, "--dump-dom", url)))
        browse(browser, "--window-size=1100,6000", "--screenshot=" + os.path.abspath(picture), url)
    except ValueError as error:
        return [str(error)]
    if not os.path.isfile(picture):
        faults.append("no screenshot was made")
    return faults
