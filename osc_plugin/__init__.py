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

"""``openstack kongming ...``: the command line, one package a noun.

What it knows
-------------

Arguments, help, columns and progress; how Nova and Placement are asked through
openstacksdk.  The docstring of a command is its help, as it is written.

What it decides
---------------

Nothing.  A command reads the cloud, asks :mod:`kongming`, and carries the
answer out.

What it never does
------------------

It needs no Nova on the machine.  ``plugin``, which each ``openstack`` command
loads, imports nothing of the library.  Nor does ``openstack`` wait for what
it does not run: it loads the modules of all commands at each start (cliff's
``CommandManager.load_commands``, by stevedore), so plans, deployments and
drawings are imported when a command that needs them runs.

Public names
------------

``plugin``, which ``openstack`` loads, and the commands that ``setup.cfg``
names as entry points.

Reading order
-------------

1. ``plugin``, ``command``: what ``openstack`` asks of a plugin.
2. ``cloud``: hosts and flavors of the cloud; ``listing``: whose the nodes are;
   ``summaries``: many hosts by one answer; ``cache``: what is kept of it.
3. ``host``: ``openstack kongming host ...``; ``power``: what of a host has
   none.
4. ``template_options``, ``template``: templates on flavors.
5. ``server``: running servers, and waiting for them.
6. ``progress``: how far long work is.
7. ``deployment``, ``plan``: many servers.
"""

__all__ = ('deployment', 'host', 'plan', 'plugin', 'server', 'template')
