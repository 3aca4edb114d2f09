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

"""Plans as files: layouts that were asked for, and moves that carry them out.

What it knows
-------------

request
    A deployment that leaves hosts, nodes or pins open, with what is asked of
    the layout beside it.
plan
    A file with the moves of running servers, in steps, or with a deployment
    to boot.  It holds no progress: where its servers are shows how far it has
    been carried out.
defragmentation
    Capacity on a fragmented host by the fewest moves of running servers.
figures
    What a layout is good for, before and after.

What it decides
---------------

Which servers may move and which are fixed, the fewest moves that free the
capacity, and the order in which their host can carry them out.
:mod:`kongming.solver` finds the layouts.

What it never does
------------------

It carries nothing out and reads no file: text goes in, values come out.
``osc_plugin.plan`` does the rest.

Public names
------------

``request.Request`` and ``of_flavors``; ``hosts_file.read``; ``defrag.make``,
``sort``, ``Host`` and ``Answer``; ``order.order``; ``figures.Figures``;
``document.Plan``, ``parse`` and ``dump``.

Reading order
-------------

1. ``request``, ``hosts_file``: what is to be laid out, and on which hosts.
2. ``defrag``: the fewest moves for more capacity.
3. ``order``: moves in an order that works.
4. ``figures``: before and after.
5. ``document``: the file.
"""

__all__ = ('defrag', 'document', 'figures', 'hosts_file', 'order', 'request')
