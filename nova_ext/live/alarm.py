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

"""Profiles that begin and end on time, between passes."""

import threading

from oslo_log import log as logging

from nova_ext.live import enforce

LOG = logging.getLogger(__name__)


class Alarm:
    """:param switch: called when a profile begins or ends

    :param driver: nova_ext.driver.LibvirtDriver, is woken afterwards
    """

    def __init__(self, switch, driver):
        self._switch = switch
        self._driver = driver
        self._timer = None

    def set(self, moment):
        """Ring then, and no more when it was to before.

        :param moment: None: not at all
        """
        self.cancel()
        if moment is not None:
            self._timer = threading.Timer(
                max(0.0, (moment - enforce.now()).total_seconds()),
                self._ring)
            self._timer.daemon = True
            self._timer.start()

    def cancel(self):
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self):
        try:
            self._switch()
        except Exception:
            # The next pass tries again.
            LOG.exception('Profiles could not be switched')
        # What was changed is recorded by a pass.
        self._driver.wake()
