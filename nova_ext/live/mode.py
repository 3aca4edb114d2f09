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

"""Whether a host changes running servers: act, observe or off.

``[kongming] live_changes`` says so.  A host on which changes fail one after
the other, or on which a pCPU is found with two owners, observes by itself
until nova-compute is started again or, with eventlet, reads its configuration
again (SIGHUP).  Where a private part of the installed Nova looks different, it
is off as long as nova-compute runs (:mod:`nova_ext.private`).
"""

import threading
import weakref

import nova.conf
from oslo_log import log as logging

from nova_ext.live import record

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)
ACT, OBSERVE, OFF = 'act', 'observe', 'off'

#: of this process; one, but for tests
_modes: weakref.WeakSet['Mode'] = weakref.WeakSet()


def _on_reload(_conf, _fresh):
    for mode in list(_modes):
        mode.resume()


class Mode:
    """:param driver: nova_ext.driver.LibvirtDriver"""

    def __init__(self, driver):
        self._driver = driver
        self._lock = threading.Lock()
        #: changes that failed since one succeeded
        self._failed = 0
        #: why it observes by itself; empty: it does not
        self.reason = ''
        self._fits = True
        _modes.add(self)
        CONF.register_mutate_hook(_on_reload)

    @property
    def current(self):
        """ACT, OBSERVE or OFF."""
        if not self._fits:
            return OFF
        if self.reason and CONF.kongming.live_changes == ACT:
            return OBSERVE
        return CONF.kongming.live_changes

    def compare(self, differences):
        """Off, if the installed Nova has parts that look different.

        :param differences: [nova_ext.private.check.Difference]
        """
        if differences:
            self._fits = False
            LOG.error('No running server of this host is changed: the '
                      'installed Nova has parts that look different: %s',
                      '; '.join(map(str, differences)))

    def succeeded(self):
        """A change was made."""
        self._failed = 0

    def failed(self, error):
        """A change was begun and rolled back."""
        with self._lock:
            self._failed += 1
            failed = self._failed
        most = CONF.kongming.observe_after
        if most and failed >= most:
            self.stop(f'{failed} live changes have failed one after the '
                      f'other, the last one: {error}')

    def stop(self, reason):
        """Observe from now on."""
        with self._lock:
            if self.reason or self.current != ACT:
                return
            self.reason = reason
        host = self._driver._tracker.host
        LOG.error('The host observes by itself and changes no running server, '
                  'until nova-compute is started again: %s',
                  reason)
        try:
            record.stopped(host, reason)
        except Exception:
            # The line above says the same.
            LOG.exception('No notification was sent')

    def resume(self):
        """Do again what the configuration says."""
        with self._lock:
            reason, self.reason, self._failed = self.reason, '', 0
        if reason:
            LOG.info('Running servers are changed again')
        self._driver.wake()
