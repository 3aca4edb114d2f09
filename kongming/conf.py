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

"""Options of the ``[kongming]`` group, read by nova-compute and scheduler."""

from __future__ import annotations

from typing import Any

from oslo_config import cfg

# A paragraph of help is one line: the generator of the sample wraps lines.
GROUP = cfg.OptGroup(
    'kongming',
    title='KongMing options',
    help='Exact, live control of where servers run inside their hosts. Read '
         'by nova-compute (``compute_driver = kongming.LibvirtDriver``).')

OPTS = [
    cfg.BoolOpt(
        'publish_inventory',
        default=True,
        help="""
Publish each NUMA node of the host to Placement, as a child of the compute \
node's own provider, with its dedicated pCPUs, shared pCPUs, memory and huge \
pages. Flavors with a template ask for these. Turned off, nothing is \
published by this nova-compute, and what it published before stays as it is.

Related options:

* ``[compute] cpu_dedicated_set``
* ``[compute] cpu_shared_set``
"""),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make ``conf.kongming`` known; can be called again."""
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[cfg.OptGroup, list[Any]]]:
    """For oslo-config-generator, entry point ``kongming``."""
    return [(GROUP, OPTS)]
