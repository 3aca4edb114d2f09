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

"""Placement as nova-compute reaches it, for the library's client."""

from nova.scheduler.client import report


class Adapter:
    """What :class:`kongming.publish.client.Placement` sends requests by.

    A report client of our own: it has Nova's ``[placement]`` options, and
    shares no cache and no generation with the one of the resource tracker.
    """

    def __init__(self):
        self._client = None

    def request(self, path, method, microversion=None, json=None, **_kwargs):
        """:returns: requests.Response, whatever its status"""
        if self._client is None:
            # Not before somebody asks: it wants Keystone.
            self._client = report.SchedulerReportClient()
        send = getattr(self._client, method.lower())
        if method in ('PUT', 'POST'):
            return send(path, json, version=microversion)
        return send(path, version=microversion)
