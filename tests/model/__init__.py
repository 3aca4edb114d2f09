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

"""Nova's resource tracker and the hook, without API, scheduler and libvirt.

What is real: the resource tracker, its claims, Nova's objects down to
``nova.db.main.api``, the hook's driver, :mod:`nova_ext.ownership` and
:mod:`nova_ext.live.steps`.  What is not:

- :mod:`tests.model.database`: the tables, as primitives, and the bus between
  nova-compute and conductor, which can lose what it carries
- :mod:`tests.model.host`: libvirt, as a table of which pCPUs each domain runs
  on, and the clock
- :mod:`tests.model.cloud`: the order in which Nova's compute manager calls
  the tracker and the driver, and the invariant

:mod:`tests.model.test_ownership` chooses what happens;
:mod:`tests.model.test_load` beside that which servers are idle, on hosts where
servers lend and borrow (:mod:`tests.model.lending`).
"""

from nova import objects

objects.register_all()
