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

"""What of the Nova that is installed here looks different."""

import functools

from nova_ext.private import check
from nova_ext.private import symbols


@functools.cache
def differences(need):
    """What of the installed Nova looks different; read once a process.

    :param need: what it is needed for, e.g. nova_ext.private.check.HOOK: a
        scheduler does not import what only nova-compute has
    :returns: [nova_ext.private.check.Difference]
    """
    return check.differences(
        symbol for symbol in symbols.SYMBOLS if symbol.need == need)
