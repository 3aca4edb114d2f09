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

"""The best layout of many servers on many hosts.

What it knows
-------------

problem
    Hosts with their states, and the servers that ask for a place or may get
    another one.
spot
    A place for one server: a host, a node for each cell, exact pins.
layout
    An answer: server to spot, with its score and a bound.
score
    What a layout is worth, one number a level; less is better.  Levels are
    compared one after the other (the table is in ``problem``).

What it decides
---------------

The layout.  A greedy answer comes first and takes seconds for a thousand
hosts; then CP-SAT of OR-Tools improves and proves it, where the extra
``planner`` is installed, or else branch and bound does.  Large clouds are
solved in groups of hosts.

What it never does
------------------

It moves no server and reads no cloud; time is a clock that is passed in.
OR-Tools is imported when a solver is asked for, never before.

Public names
------------

``problem.Problem``, ``Ask``, ``Today``, ``Spot``, ``Layout``, ``Board`` and
``score``; ``solve.solve``; ``pins.with_pins`` and ``pins_of``.

Reading order
-------------

1. ``problem``: what is asked, what is found, what is better.
2. ``greedy``: a good layout soon (private).
3. ``bound``: what no layout can do better (private).
4. ``pins``: exact pins once nodes are known.
5. ``boots``: which of them Nova boots, one after the other (private).
6. ``search``: the best layout without OR-Tools (private).
7. ``model``, ``optimum``: the best layout with OR-Tools (private).
8. ``solve``: all of these together.
"""

__all__ = ('pins', 'problem', 'solve')
