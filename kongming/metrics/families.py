#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""Samples in the form of Prometheus' client library."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from prometheus_client import core

from kongming import exception
from kongming.metrics import account
from kongming.metrics import catalog
from kongming.metrics import host

_FAMILIES = {catalog.GAUGE: core.GaugeMetricFamily,
             catalog.COUNTER: core.CounterMetricFamily,
             catalog.HISTOGRAM: core.HistogramMetricFamily,
             catalog.SUMMARY: core.SummaryMetricFamily}


def families(samples: Iterable[host.Sample]) -> Iterator[Any]:
    """Metric families, in the order of the catalog.

    Values of labels are others' text: what would be obeyed by whoever shows
    them is escaped here, and what the format needs by the library.
    """
    found: dict[str, list[host.Sample]] = {}
    for sample in samples:
        found.setdefault(sample.name, []).append(sample)
    for name, metric in catalog.CATALOG.items():
        if name not in found:
            continue
        family = _FAMILIES[metric.kind](
            name, metric.text, labels=metric.labels)
        for sample in found[name]:
            _add(family, metric,
                 [exception.printable(label) for label in sample.labels],
                 sample.value)
        yield family


def _add(family: Any, metric: catalog.Metric, labels: list[str],
         value: Any) -> None:
    if metric.kind == catalog.HISTOGRAM:
        bounds = [*map(str, account.BOUNDS), '+Inf']
        family.add_metric(labels, [*zip(bounds, accumulate(value.counts))],
                          value.seconds)
    elif metric.kind == catalog.SUMMARY:
        family.add_metric(labels, value.count, value.seconds)
    else:
        family.add_metric(labels, value)
