# SPDX-License-Identifier: GPL-2.0
"""What is computed of samples."""

import numpy
import scipy.stats


def percentiles(samples, **named):
    """Values that are among the samples: NAME of the result, and which part is at most that."""
    if not len(samples):
        return {}
    return {name: int(numpy.quantile(samples, part, method="inverted_cdf"))
            for name, part in named.items()}


def rank_test(first, second):
    """Mann and Whitney: by how many standard deviations the first are above the second, and
    the share of pairs in which one of them is."""
    pairs = len(first) * len(second)
    above = scipy.stats.mannwhitneyu(first, second).statistic / pairs
    return float(scipy.stats.ranksums(first, second).statistic), float(above)
