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

"""``python -m nova_ext.cleanup``"""

import sys

from nova import monkey_patch
from oslo_config import cfg

if __name__ == '__main__':
    # As nova-compute, and before anything of Nova that looks at it.
    try:
        monkey_patch.patch(backend='threading')
    except cfg.Error as exc:
        print(exc, file=sys.stderr)
        sys.exit(2)

from nova_ext.cleanup import command  # noqa: E402

if __name__ == '__main__':
    sys.exit(command.main())
