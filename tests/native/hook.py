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

"""KongMing put under Nova's tests, and a witness that it was there.

The tests stay as they are: what they set of the configuration is changed on
its way into it.
"""

import collections
import functools
from importlib import metadata
import logging
import os
import sys

from nova.scheduler.client import report
from nova.scheduler import host_manager
from nova import test
from nova.tests import fixtures as nova_fixtures
from nova.tests.functional import fixtures as functional_fixtures
from nova.virt.libvirt import driver as libvirt_driver
from oslo_concurrency import lockutils
from stevedore import extension

NATIVE = 'libvirt.LibvirtDriver'
HOOKED = 'kongming.LibvirtDriver'
FILTER = 'KongmingFilter'
AVAILABLE = ['nova.scheduler.filters.all_filters',
             f'nova_ext.filters.{FILTER}']
WEIGHERS = ['nova.scheduler.weights.all_weighers',
            'nova_ext.weights.KongmingWeigher']
VALIDATORS = 'nova.api.extra_spec_validators'
#: Written once in a cloud, by Nova, for the trait that a hooked host has.
TRAIT = '/traits/CUSTOM_KONGMING_HOOK'
#: Hooked drivers that a test has started.
_DRIVERS = []


class ReadersFirst(lockutils.ReaderWriterLock):
    """The lock of Nova's fixture that says which cell is meant.

    A test that runs a periodic task holds it for reading until the task ends,
    in a thread of its own since Nova 34.  Where the task asks the database
    for something by a context without a cell, as Nova's libvirt driver does,
    it has to read, too, and waits for a writer who waits for the test:
    natively one run in ten of some tests hangs.  Writers only set a variable;
    they can wait until nobody reads.
    """

    has_pending_writers = False


def patch_nova():
    """Make Nova's tests run from a wheel, and not hang by themselves."""
    _after(nova_fixtures.CellDatabases, '__init__', lambda self: (
        setattr(self, '_cell_lock', ReadersFirst())))
    path = os.path.join(sys.prefix, 'etc', 'nova', 'api-paste.ini')
    # They look for it where it is in Nova's source tree.
    _after(nova_fixtures.ConfFixture, 'setUp', lambda self: (
        self.conf.set_default('api_paste_config', path, group='wsgi')))


def forbid_import():
    """Native is without the validator, which nova-api finds by itself."""
    extension.ExtensionManager.ENTRY_POINT_CACHE[VALIDATORS] = [
        found for found in metadata.entry_points(group=VALIDATORS)
        if not found.value.startswith('nova_ext.')]


def install():
    """Let Nova's tests run KongMing's driver, filter and weigher."""
    # Their options have to be known before a test reads its configuration.
    import nova_ext.driver  # noqa: F401
    import nova_ext.filters  # noqa: F401
    import nova_ext.weights  # noqa: F401

    def defaults(self):
        group = 'filter_scheduler'
        self.conf.set_default('available_filters', AVAILABLE, group=group)
        self.conf.set_default('enabled_filters', with_filter(
            self.conf.filter_scheduler.enabled_filters), group=group)
        self.conf.set_default('weight_classes', WEIGHERS, group=group)

    _after(nova_fixtures.ConfFixture, 'setUp', defaults)
    test.TestCase.flags = _hooked_flags(test.TestCase.flags)
    _after(nova_ext.driver.LibvirtDriver, 'init_host',
           lambda self, *_args, **_kwargs: _DRIVERS.append(self))
    clean_up = functional_fixtures.PlacementFixture.cleanUp
    # Afterwards nobody answers.
    functional_fixtures.PlacementFixture.cleanUp = (
        lambda self, *args, **kwargs: (
            end_test(), clean_up(self, *args, **kwargs))[1])


def end_test():
    """Have no pass of a test's computes go on into the next test.

    Nova's tests leave some computes running; theirs is one process, so they
    would meet the next test's databases.
    """
    while _DRIVERS:
        driver = _DRIVERS.pop()
        driver.passes._stop.set()
        driver.passes._wake.set()
        driver.publisher.stop()
        with driver.publisher._one_run:
            pass  # a run that has begun has ended
        driver._reconciler.stop()


def with_filter(names):
    """Enabled filters, ours among them and before NUMATopologyFilter."""
    names = [name for name in names if name != FILTER]
    place = (names.index('NUMATopologyFilter')
             if 'NUMATopologyFilter' in names else len(names))
    return [*names[:place], FILTER, *names[place:]]


def _hooked_flags(flags):
    @functools.wraps(flags)
    def hooked(self, **kw):
        group = kw.get('group')
        if group is None and kw.get('compute_driver') == NATIVE:
            kw['compute_driver'] = HOOKED
        elif group == 'filter_scheduler':
            if 'enabled_filters' in kw:
                kw['enabled_filters'] = with_filter(kw['enabled_filters'])
            if 'available_filters' in kw:
                kw['available_filters'] = [*kw['available_filters'],
                                           AVAILABLE[-1]]
        return flags(self, **kw)
    return hooked


class Witness(logging.Handler):
    """Counts what of the hook was in use.

    A test that passes says nothing where the hook was not there, or where it
    failed and the failure was kept from Nova.

    :ivar counts: of ``drivers`` (Nova's for libvirt, ours included),
        ``hooked_drivers``, ``tree_updates`` by our driver, ``published``
        (hosts, each time that a node is in Placement), ``schedulers``,
        ``hooked_schedulers``, ``filterings`` by our filter, ``faults``,
        ``requests`` of Nova's own to Placement, but for our trait's name,
        and what we asked a database for without saying which cell's
        (``cell_unknown``)
    :ivar faults: the errors and caught exceptions that we logged, in words
    """

    def __init__(self):
        super().__init__(logging.WARNING)
        self.counts = collections.Counter()
        self.faults = []
        for name in 'kongming', 'nova_ext':
            logging.getLogger(name).addHandler(self)
        _after(libvirt_driver.LibvirtDriver, '__init__', self._driver)
        _after(host_manager.HostManager, '__init__', self._scheduler)
        _after(nova_fixtures.CellDatabases, '_wrap_get_context_manager',
               self._asked)
        for method in 'get', 'post', 'put', 'delete':
            _after(report.SchedulerReportClient, method, self._requested)

    def watch(self):
        """Look at the hook, too; to be called once it is installed."""
        from nova_ext import driver
        from nova_ext import filters
        from nova_ext.placement import publisher

        _after(driver.LibvirtDriver, 'update_provider_tree', self._updated)
        _after(publisher.Publisher, '_publish', self._published)
        _after(filters.KongmingFilter, 'filter_all', self._filtered)

    def emit(self, record):
        if record.levelno < logging.ERROR and not record.exc_info:
            return
        self.counts['faults'] += 1
        self.faults.append(logging.Formatter().format(record))

    def _driver(self, driver, *_args, **_kwargs):
        self.counts['drivers'] += 1
        self.counts['hooked_drivers'] += any(
            cls.__module__ == 'nova_ext.driver' for cls in type(driver).mro())

    def _scheduler(self, manager):
        names = [type(found).__name__ for found in manager.enabled_filters]
        self.counts['schedulers'] += 1
        self.counts['hooked_schedulers'] += (
            FILTER in names and names == with_filter(names)
            and 'KongmingWeigher' in [
                type(found).__name__ for found in manager.weighers])

    def _updated(self, *_args, **_kwargs):
        self.counts['tree_updates'] += 1

    def _published(self, publisher, nodename, *_args):
        self.counts['published'] += bool(publisher.published(nodename))

    def _asked(self, _databases, context):
        """Somebody asks a database; by a context of no cell, any one's."""
        frame = sys._getframe(2)
        while frame and frame.f_globals['__name__'].startswith(
                ('nova.db', 'nova.objects', 'oslo_')):
            frame = frame.f_back
        self.counts['cell_unknown'] += bool(
            not getattr(context, 'db_connection', None) and frame
            and frame.f_globals['__name__'].startswith('nova_ext.'))

    def _requested(self, _client, url, *_args, **_kwargs):
        # Above are this function and the wrapper.
        ours = sys._getframe(2).f_globals['__name__'].startswith('nova_ext.')
        self.counts['requests'] += not ours and url != TRAIT

    def _filtered(self, _filter, *_args, **_kwargs):
        self.counts['filterings'] += 1


def _after(cls, name, note):
    """Call ``note`` with a method's arguments whenever it has returned."""
    method = getattr(cls, name)

    @functools.wraps(method)
    def noted(self, *args, **kwargs):
        result = method(self, *args, **kwargs)
        note(self, *args, **kwargs)
        return result

    setattr(cls, name, noted)
