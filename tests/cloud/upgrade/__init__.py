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

"""An upgrade of Nova on a real cloud, with servers that run, and back.

:mod:`~tests.cloud.upgrade.procedure` has the steps in their order,
:mod:`~tests.cloud.upgrade.releases` starts a service from either release,
:mod:`~tests.cloud.upgrade.servers` has the servers and what must not change
of them, :mod:`~tests.cloud.upgrade.answers` what is asked at each step, and
:mod:`~tests.cloud.upgrade.removal` follows the page that says how KongMing is
removed.
"""

from tests.cloud.upgrade.procedure import main

__all__ = ['main']
