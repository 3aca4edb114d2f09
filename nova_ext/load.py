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

"""Which driver nova-compute gets: the hook, or Nova's own.

Nothing of the hook is imported before the private parts of Nova that it
needs are compared (:mod:`nova_ext.private`).
"""

from oslo_log import log as logging

from nova_ext.private import check
from nova_ext.private import installed

LOG = logging.getLogger(__name__)


def driver():
    """The class that ``compute_driver = kongming.LibvirtDriver`` names.

    Whatever Nova is installed, nova-compute starts: a template is refused on
    this host before a native server is.
    """
    reasons = [str(found) for found in installed.differences(check.HOOK)]
    if not reasons:
        try:
            from nova_ext import driver as hook
            return hook.LibvirtDriver
        except Exception as exc:
            LOG.debug('The hook can not be imported', exc_info=True)
            reasons = [f'{type(exc).__name__}: {exc}']
    from nova_ext.private import native
    LOG.error('nova-compute runs without KongMing, so that this host obeys '
              'no template and changes no running server: the installed Nova '
              'has parts that look different: %s', '; '.join(reasons))
    return native.LibvirtDriver
