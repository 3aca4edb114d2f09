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

"""The compute hook: Nova's libvirt driver, and a few lines before it.

A server without a ``kongming:`` key meets nothing here but ``super()``, and
that borrowers leave the pCPUs that it is about to run on.
"""

from kongming import conf as km_conf
from kongming import exception as km_exc
from kongming.intent import merge
from kongming.placement import inventory
from kongming.template import template
import nova.conf
import nova.context
from nova import exception
from nova.virt import event as virtevent
from nova.virt import hardware
from nova.virt.libvirt import driver
from nova_ext.ownership import write_ahead
from oslo_log import log as logging
from oslo_utils import excutils

from nova_ext import diagnostics
from nova_ext import figures
from nova_ext import guests
from nova_ext import lifecycle
from nova_ext import limits
from nova_ext.live import passes
from nova_ext.live import reclaim
from nova_ext.live import reconciler
from nova_ext.ownership import claimed
from nova_ext.ownership import ownership
from nova_ext.placement import publisher
from nova_ext import power
from nova_ext.private import check
from nova_ext.private import installed
from nova_ext import stats

CONF = nova.conf.CONF
km_conf.register_opts(CONF)
LOG = logging.getLogger(__name__)
#: Read now: tests replace parts of Nova later.
_DIFFERENT = [*installed.differences(check.HOOK),
              *installed.differences(check.LIVE)]


class LibvirtDriver(driver.LibvirtDriver):
    """``compute_driver = kongming.LibvirtDriver``."""

    @property
    def _tracker(self):
        # The resource tracker belongs to the compute manager, which the
        # driver knows by its VirtAPI only (nova/compute/manager.py,
        # ComputeVirtAPI).
        return self.virtapi._compute.rt

    def __init__(self, virtapi, read_only=False):
        super().__init__(virtapi, read_only)
        self.cpu_api = power.CpuApi(self)
        self.publisher = publisher.Publisher(self)
        self._reconciler = reconciler.Reconciler(self)
        self._diagnostics = diagnostics.Diagnostics(self._reconciler)
        self.passes = passes.Passes(self._reconciler)
        self._figures = figures.Writer(self._reconciler.jobs,
                                       self._reconciler.load.counts)
        self._lifecycle = lifecycle.Lifecycle(self)

    def borrowed_still(self, pcpus):
        """Which pCPUs borrowers are on that can't be moved.

        All others leave; what is asked for is not lent any more.
        """
        return self._reconciler.reclaim(pcpus)

    def native_numa_config(self, *args, **kwargs):
        """What Nova itself makes of a claimed topology."""
        return super()._get_guest_numa_config(*args, **kwargs)

    def _get_guest_numa_config(self, instance_numa_topology, flavor,
                               image_meta):
        # Asked for at each definition of a domain, and for the destination
        # of a live migration.
        if instance_numa_topology is not None:
            self._lifecycle.reclaim(
                instance_numa_topology,
                template.has_template(flavor.extra_specs))
        return self.numa_config(instance_numa_topology, flavor, image_meta)

    def numa_config(self, topology, flavor, image_meta):
        if not template.has_template(flavor.extra_specs):
            return super()._get_guest_numa_config(topology, flavor,
                                                  image_meta)
        if topology is None:
            config = super()._get_guest_numa_config(None, flavor, image_meta)
            return config._replace(cpuset=self._floats(config.cpuset))
        topology = ownership.Ownership(topology).current
        config = super()._get_guest_numa_config(topology, flavor, image_meta)
        try:
            desired, problems = limits.decode(flavor.extra_specs)
        except km_exc.InvalidTemplate as exc:
            # It runs all the same where on_failure says so.
            desired, problems = template.Template(), [exc]
        for problem in (*problems, *guests.shape(
                config, topology, merge.Intent(desired),
                self._get_host_numa_topology())):
            LOG.warning('Not obeyed: %s', problem)
        return config

    def suspend(self, context, instance):
        # It is resumed with the pins that it is saved with.
        if template.has_template(instance.flavor.extra_specs):
            try:
                self._lifecycle.before_saved(instance)
            except Exception as exc:
                # It runs on.
                raise exception.InstanceFaultRollback(exc) from exc
        super().suspend(context, instance)

    def resume(self, context, instance, *args, **kwargs):
        if not template.has_template(instance.flavor.extra_specs):
            return super().resume(context, instance, *args, **kwargs)
        try:
            self._lifecycle.before_started(context, instance)
        except reclaim.StillBorrowed as exc:
            # It can be resumed later.
            raise exception.InstanceFaultRollback(exc) from exc
        self._lifecycle.bind_saved(instance)
        super().resume(context, instance, *args, **kwargs)
        self.wake()

    def unrescue(self, context, instance):
        if not template.has_template(instance.flavor.extra_specs):
            return super().unrescue(context, instance)
        self._lifecycle.before_started(context, instance)
        super().unrescue(context, instance)
        self.wake()

    def live_migration(self, context, instance, *args, **kwargs):
        if template.has_template(instance.flavor.extra_specs):
            try:
                # While it migrates, libvirt changes none of its pins
                # (qemu_migration.c, qemuMigrationJobStart).
                self._reconciler.own_only(instance)
            except Exception:
                # Its owners wait for it to leave, or move it.
                LOG.exception('The server migrates, and borrows pCPUs still',
                              instance=instance)
        return super().live_migration(context, instance, *args, **kwargs)

    def _floats(self, pcpus):
        """What a server with a template but without NUMA cells floats over.

        :param pcpus: as Nova has it; empty or None where it leaves it open
        :returns: the same where nothing would be left
        """
        never = limits.never()
        if not never:
            return pcpus
        return (pcpus or self._get_vcpu_available()) - never or pcpus

    def check_can_live_migrate_destination(self, context, instance, *args,
                                           **kwargs):
        data = super().check_can_live_migrate_destination(
            context, instance, *args, **kwargs)
        if (template.has_template(instance.flavor.extra_specs)
                and instance.numa_topology is None):
            # The source writes it into the domain (nova/virt/libvirt/
            # migration.py, _update_cpu_shared_set_xml).
            data.dst_cpu_shared_set_info = self._floats(
                data.dst_cpu_shared_set_info)
        return data

    def _init_host_topology(self):
        # All dedicated pCPUs are online by its end.
        super()._init_host_topology()
        try:
            limits.compare_cpus(self._get_host_numa_topology(), frozenset(
                (hardware.get_cpu_dedicated_set() or set())
                | (hardware.get_cpu_shared_set() or set())))
        except Exception:
            # It is libvirt's word that is left then.
            LOG.exception("The kernel's CPUs could not be compared with "
                          "libvirtd's")

    def init_host(self, host):
        # What is malformed is no limit: better not to start.
        limits.never()
        super().init_host(host)
        self._reconciler.mode.compare(_DIFFERENT)
        try:
            self._look_after_servers()
        except Exception:
            # nova-compute starts all the same.
            LOG.exception('Running servers are not looked after, but for '
                          'when somebody asks for their diagnostics')

    def _look_after_servers(self):
        self.publisher.start()
        self._reconciler.start()
        self.passes.start()
        self._figures.start()

    def cleanup_host(self, host):
        self.passes.stop()
        self._figures.stop()
        self.publisher.stop()
        self._reconciler.stop()
        super().cleanup_host(host)

    def emit_event(self, event):
        super().emit_event(event)
        try:
            self._look_again(event)
        except Exception:
            # It would end the thread that takes libvirt's events
            # (nova/virt/libvirt/host.py, _dispatch_thread).
            LOG.exception('Not looked after at once: %s', event)

    def _look_again(self, event):
        # A domain that starts or resumes may not be where it was wanted.
        if getattr(event, 'transition', None) in (
                virtevent.EVENT_LIFECYCLE_STARTED,
                virtevent.EVENT_LIFECYCLE_RESUMED) and (
                    event.uuid in self._reconciler.present):
            self.wake()

    def wake(self):
        """Have a pass made now rather than later."""
        self.passes.wake()

    def get_info(self, instance, use_cache=True):
        if self._diagnostics.is_blocked(instance):
            # libvirt would answer when its memory has moved.
            return hardware.InstanceInfo(state=instance.power_state)
        return super().get_info(instance, use_cache=use_cache)

    def get_instance_diagnostics(self, instance):
        return self._diagnostics.of(instance,
                                    super().get_instance_diagnostics)

    def reboot(self, context, instance, network_info, reboot_type, *args,
               **kwargs):
        self._lifecycle.about_to_run(context, instance)
        if reboot_type == 'SOFT' and template.has_template(
                instance.flavor.extra_specs):
            try:
                # It is started by its persistent definition.
                self._lifecycle.before_saved(instance)
            except Exception:
                LOG.warning('Its persistent definition could not be '
                            'corrected; it is rebooted hard', exc_info=True,
                            instance=instance)
                reboot_type = 'HARD'
        return super().reboot(context, instance, network_info, reboot_type,
                              *args, **kwargs)

    def power_on(self, context, instance, *args, **kwargs):
        self._lifecycle.about_to_run(context, instance)
        return super().power_on(context, instance, *args, **kwargs)

    def rescue(self, context, instance, *args, **kwargs):
        self._lifecycle.about_to_run(context, instance)
        if template.has_template(instance.flavor.extra_specs):
            # Nova saves its persistent definition for the unrescue.
            self._lifecycle.before_saved(instance)
        return super().rescue(context, instance, *args, **kwargs)

    def destroy(self, context, instance, *args, **kwargs):
        # What the tracker gives back afterwards is what is said here.
        self._lifecycle.refresh(context, instance)
        return super().destroy(context, instance, *args, **kwargs)

    def migrate_disk_and_power_off(self, context, instance, *args, **kwargs):
        if template.has_template(instance.flavor.extra_specs):
            self._lifecycle.refresh(context, instance)
            claimed.correct_move(instance)
        return super().migrate_disk_and_power_off(
            context, instance, *args, **kwargs)

    def spawn(self, context, instance, image_meta, injected_files,
              admin_password, allocations, *args, **kwargs):
        if self._lifecycle.arrives(instance):
            server = claimed.ClaimedServer(
                instance, self._host.get_hostname(), image_meta)
            if not server.stay(context):
                self._lifecycle.repin(context, server, allocations)
            elif server.has_let_go:
                raise exception.ComputeResourcesUnavailable(
                    reason='A move that was cut short is left of it, and it '
                           'owns fewer pCPUs than it needs; a hard reboot '
                           'gives it those of its template')
            if instance.host == self._tracker.host:
                server.unmark()
        return super().spawn(context, instance, image_meta, injected_files,
                             admin_password, allocations, *args, **kwargs)

    def finish_migration(self, context, migration, instance, disk_info,
                         network_info, image_meta, resize_instance,
                         allocations, *args, **kwargs):
        if self._lifecycle.arrives(instance):
            self._lifecycle.repin(context, claimed.ClaimedServer(
                instance, self._host.get_hostname(), image_meta), allocations)
        return super().finish_migration(
            context, migration, instance, disk_info, network_info, image_meta,
            resize_instance, allocations, *args, **kwargs)

    def finish_revert_migration(self, context, instance, *args, **kwargs):
        self._lifecycle.arrives(instance)
        return super().finish_revert_migration(context, instance, *args,
                                               **kwargs)

    def pre_live_migration(self, context, instance, *args, **kwargs):
        # Of one without a NUMA topology nothing is claimed before.
        self._lifecycle.arrives(instance)
        return super().pre_live_migration(context, instance, *args, **kwargs)

    def post_live_migration_at_destination(self, context, instance, *args,
                                           **kwargs):
        # It may have been on its way for hours, and over a restart.
        arrives = self._lifecycle.arrives(instance)
        try:
            return super().post_live_migration_at_destination(
                context, instance, *args, **kwargs)
        finally:
            if arrives:
                self.wake()

    def post_claim_migrate_data(self, context, instance, migrate_data,
                                claim):
        if self._lifecycle.arrives(instance) and (
                claim.claimed_numa_topology is not None):
            try:
                self._lifecycle.repin(context, claimed.IncomingServer(
                    claim, self._host.get_hostname()))
                return super().post_claim_migrate_data(
                    context, instance, migrate_data, claim)
            except Exception as exc:
                # Nobody else aborts the claim at this point
                # (nova/compute/manager.py, _live_migration_claim).
                with excutils.save_and_reraise_exception() as ctxt:
                    claim.abort()
                    ctxt.reraise = False
                    reason = str(exc)
                    if isinstance(exc, exception.ComputeResourcesUnavailable):
                        reason = exc.format_message()
                    else:
                        LOG.exception('The server could not be repinned',
                                      instance=instance)
                    # After anything else conductor would put a server that
                    # runs into ERROR, and try no other host.
                    raise exception.MigrationPreCheckError(reason=reason)
        return super().post_claim_migrate_data(
            context, instance, migrate_data, claim)

    def get_available_resource(self, nodename):
        found = super().get_available_resource(nodename)
        try:
            found['stats'] = {
                **(found.get('stats') or {}),
                **stats.report(self._reconciler.reported(
                    self.publisher.stats_of(nodename)))}
        except Exception:
            # Nova reports its host all the same; template servers do not
            # come.
            LOG.exception('What %s obeys can not be reported', nodename)
        return found

    def update_provider_tree(self, provider_tree, nodename,
                             allocations=None):
        self._charge_again(nodename)
        self._look_first()
        super().update_provider_tree(provider_tree, nodename,
                                     allocations=allocations)
        # With what Nova writes of its own, once: a write of ours beside it
        # would have Nova's next one refused.
        current = {inventory.TRAIT_LIVE.get(self._reconciler.live),
                   inventory.TRAIT_POWER.get(power.strategy())} - {None}
        provider_tree.add_traits(nodename, inventory.TRAIT_HOOK, *current)
        provider_tree.remove_traits(nodename, *(
            {*inventory.TRAIT_LIVE.values(),
             *inventory.TRAIT_POWER.values()} - current))
        try:
            self.publisher.notice(nodename)
        except Exception:
            # A native server's claim fails with this report.
            LOG.exception('Placement is not told of the NUMA nodes of %s '
                          'before it is looked at again', nodename)

    def _look_first(self):
        """Nova knows the host by now; nothing was looked at before."""
        try:
            if not self._reconciler.present.is_known:
                # No domain is to wait until it is known who borrows.
                self.wake()
        except Exception:
            LOG.exception('The servers of this host are looked at later')

    def _charge_again(self, nodename):
        """At the end of Nova's audit, under its lock."""
        try:
            write_ahead.charge_again(self._tracker, nodename)
        except Exception:
            LOG.exception('The tracker of %s could not be charged with what '
                          'uncertain servers may own', nodename)
