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

"""What all test cases share."""

import hypothesis
import testtools

#: A busy machine is slow, which says nothing of what is tested.
hypothesis.settings.register_profile('kongming', hypothesis.settings(
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow]))
hypothesis.settings.load_profile('kongming')


class TestCase(testtools.TestCase):
    """Pure tests: no I/O, no clock, no Nova."""
