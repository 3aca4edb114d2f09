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

"""Parts of Nova that are no documented interface, and that KongMing uses.

What it knows
-------------

symbol
    A class, function, attribute or constant of Nova: where it is, how it has
    to look, what it is used for, and what a change of it would do.
need
    What depends on it: the hook, live changes, or the scheduler.

What it decides
---------------

Which of them look different in the Nova that is installed.  It compares names
and signatures.  It does not see that a function does something else.

What it never does
------------------

It calls nothing of Nova's, and it fails nothing.  ``native`` is beside it:
Nova's own driver, which :func:`nova_ext.load.driver` takes where the hook
does not fit.

Public names
------------

``installed.differences``, ``native.LibvirtDriver``, ``symbols.SYMBOLS`` and
what is in ``check``.

Reading order
-------------

1. ``symbols``: the list.  A module of ``nova_ext`` that uses another private
   part of Nova adds it there; ``tests/unit/nova_ext/test_private.py`` compares
   the list with the code.
2. ``check``: how a symbol has to look.
3. ``installed``: what looks different here.
4. ``native``: the driver without the hook.
"""

__all__ = ('check', 'installed', 'native', 'symbols')
