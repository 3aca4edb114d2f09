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

"""A privsep daemon with the capabilities that its context has by itself."""

from oslo_config import cfg
from oslo_privsep import priv_context

from nova_ext import privileged

#: Read when the tests are loaded: Nova's fixtures unset all defaults after
#: each of its tests (oslo_config/cfg.py, _unset_defaults_and_overrides), and
#: a daemon would have no capability at all.
_OWN = {context: list(context.conf.capabilities)
        for context in (privileged.context, privileged.resctrl_context)}


def start(test, context):
    """Start one until the test ends, whose calls go there meanwhile."""
    test.assertTrue(_OWN[context])
    test.addCleanup(context.set_client_mode, context.client_mode)
    context.set_client_mode(True)
    cfg.CONF.set_default('capabilities', _OWN[context],
                         group=context.cfg_section)
    context.start(priv_context.Method.FORK)
    test.addCleanup(context.stop)
