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

"""An OpenStack cloud in one process; see :mod:`tests.embedded.cloud`."""

from importlib import metadata
import os

# Native threads, as Nova's services run by default; the fixtures of Nova 33
# share no SQLite between threads yet, so there it is eventlet.  Nova decides
# when nova.tests.functional is imported, which has to come before anything
# that knows eventlet.
os.environ.setdefault(
    'OS_NOVA_DISABLE_EVENTLET_PATCHING',
    'true' if int(metadata.version('nova').split('.')[0]) >= 34 else 'false')

import nova.tests.functional  # noqa: E402,F401
