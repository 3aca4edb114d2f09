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
"""A look at an installed KongMing: ``tests/installed.py NOVA``.

Run by ``tools/package`` in an environment that has nothing but the wheel and
what that asks for.  Ends at the first thing that is not as it should be.
"""

import importlib
import importlib.metadata
import pathlib
import subprocess
import sys


def here(module):
    """Whether a module is the installed one."""
    return pathlib.Path(module.__file__).is_relative_to(sys.prefix)


def run(program, *words):
    """What an installed program prints."""
    return subprocess.run([f'{sys.prefix}/bin/{program}', *words],
                          check=True, capture_output=True, text=True).stdout


def main(nova):
    # Not what lies beside this file.
    sys.path[:] = [path for path in sys.path if path and pathlib.Path(
        path).is_relative_to(sys.prefix) or 'python3' in path]
    version = importlib.metadata.version('nova')
    assert version.split('.')[0] == nova, version

    points = importlib.metadata.distribution('kongming').entry_points
    for point in points:
        if not point.group.startswith('openstack.'):
            loaded = point.load()
            module = sys.modules[getattr(loaded, '__module__', point.module)]
            assert here(module), module
    print(f'{len(points)} entry points')

    # As nova-compute finds its driver (nova/virt/driver.py, load_compute_
    # driver), and the scheduler its classes.
    from nova import config
    from nova.virt import driver
    from oslo_utils import importutils
    config.parse_args(['nova-compute'], default_config_files=[])
    found = importutils.import_class('nova.virt.kongming.LibvirtDriver')
    assert issubclass(found, driver.ComputeDriver), found
    assert here(importlib.import_module('nova.virt.kongming'))
    from nova.scheduler import filters
    from nova.scheduler import weights
    handler = filters.HostFilterHandler()
    names = {each.__name__ for each in handler.get_matching_classes(
        ['nova.scheduler.filters.all_filters',
         'nova_ext.filters.KongmingFilter'])}
    assert {'KongmingFilter', 'NUMATopologyFilter'} <= names, names
    handler = weights.HostWeightHandler()
    names = {each.__name__ for each in handler.get_matching_classes(
        ['nova_ext.weights.KongmingWeigher'])}
    assert names == {'KongmingWeigher'}, names
    print('driver, filter and weigher as Nova finds them')

    from nova.api.validation.extra_specs import validators
    from nova import exception
    validators.load_validators()
    validators.validate('kongming:pin.0', '0:4 1:36')
    try:
        validators.validate('kongming:pin.0', '0:four')
    except exception.ValidationError as exc:
        print(f'validator: {exc}')
    else:
        raise AssertionError('a malformed map was taken')

    from kongming.deployment import document
    from kongming.template import schema
    assert len(schema.keys()) > 10
    document.parse('version: 1\nname: x\ntemplates: {}\n'
                   'servers: {}\n')
    sample = pathlib.Path(sys.prefix) / 'etc/kongming/kongming.conf.sample'
    assert sample.is_file(), sample
    print('schemas and samples')

    print(run('kongming', '--help').splitlines()[0])


if __name__ == '__main__':
    main(*sys.argv[1:])
