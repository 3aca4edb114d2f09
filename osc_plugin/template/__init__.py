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

"""``openstack kongming template ...``: templates on flavors.

What it knows
-------------

How a template is put on a flavor together with what it asks of Placement, and
how it is shown, checked, previewed, exported, imported and propagated.

What it decides
---------------

Nothing.  :mod:`kongming.template` reads templates,
:mod:`kongming.placement.flavor` computes the extra specs, :mod:`kongming.fit`
says on which hosts a template fits.

What it never does
------------------

It changes no running server, but for ``set --propagate``, which writes their
metadata and waits for their hosts.

Public names
------------

The commands, as entry points: ``template``, ``create``, ``document``,
``check`` and ``preview``.

Reading order
-------------

1. ``template``: ``set``, ``unset``, ``show``, ``list``.
2. ``create``: ``create``, ``delete``.
3. ``document``: ``validate``, ``export``, ``import``.
4. ``check``: where a template fits.
5. ``preview``: which profile is active when.
6. ``propagate``: a new template on running servers (private).
"""

__all__ = ('check', 'create', 'document', 'preview', 'template')
