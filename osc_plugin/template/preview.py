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

"""``openstack kongming template preview``: which profile is active when."""

import argparse
import datetime
import zoneinfo

from cliff import columns as cliff_columns
from osc_lib import exceptions

from kongming.compute import servers
from kongming.intent import calendar
from kongming.load import recording
from kongming.load import replay
from kongming.template import template
from kongming.template import zones
from osc_plugin import cloud
from osc_plugin import command
from osc_plugin import template_options

_WEEK = datetime.timedelta(days=7)
#: What a calendar may cover: each switch is a row of it.
_MOST = datetime.timedelta(days=2 * 366)


#: So many of more hosts are named.
_NAMES = 5
_SAME = "'pip install --upgrade tzdata' and a restart make them the same."


class ConflictsColumn(cliff_columns.FormattableColumn):
    """A line each for people, key, pCPUs and owner for programs."""

    def human_readable(self):
        return '\n'.join(map(str, self._value))

    def machine_readable(self):
        return [conflict._asdict() for conflict in self._value]


def _zone(text):
    try:
        return zones.zone(text)
    except zoneinfo.ZoneInfoNotFoundError as exc:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a time zone; an IANA name is, such as "
            f'Asia/Shanghai or UTC') from exc


def _time(text):
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a time; write 2026-10-25T02:30, "
            f'2026-10-25T02:30+01:00 or 2026-10-25') from exc
    if not 2000 <= moment.year < 2400:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not in the years 2000 to 2399")
    return moment


class PreviewTemplate(command.Lister):
    """Show which profile will be active when, and what it changes.

    For a flavor or a document, it shows what the windows say. For a host, it
    shows each server that has profiles, by its windows and its metadata.
    'conflict' then has the pCPUs that a profile names and the host does not
    give: those that another server owns, and those that are neither the
    server's own nor shared. The exit status is 1 if there is a conflict. Only
    an admin sees a host.

    Windows are decided by the newer one of two databases of time zones, the
    system's and tzdata's. A warning names hosts that use another version than
    this command.

    Conditions on load (use<15% for 10m) are not known ahead, so no row has a
    profile because of them. With --figures it shows instead which profile was
    active when, for each server in a file of 'kongming watch --record'.

    By default it shows the coming week. Times without an offset are in the
    time zone of --zone, and so are times that it prints; of an hour that
    comes twice the first is meant.

    Examples::

        openstack kongming template preview du.yaml
        openstack kongming template preview --flavor nfv.l \\
            --from 2026-10-24 --to 2026-10-26 --zone Europe/Berlin
        openstack kongming template preview --host compute1
        openstack kongming template preview web.yaml --figures week.jsonl
        openstack kongming template preview --host compute1 \\
            --at 2026-10-25T02:30+01:00 -f json
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument(
            'file', metavar='<file>', nargs='?',
            help='Document that holds the template; - is standard input.')
        what.add_argument('--flavor', metavar='<flavor>',
                          help='Flavor (name or ID) that has a template.')
        what.add_argument('--host', metavar='<host>',
                          help='Host (name of its compute node).')
        parser.add_argument(
            '--figures', metavar='<file>',
            help="What 'kongming watch --record' wrote; not with --host.")
        parser.add_argument('--at', metavar='<time>', type=_time,
                            help='Only what is active then.')
        parser.add_argument('--from', metavar='<time>', type=_time,
                            dest='begin', help='Begin there, not now.')
        parser.add_argument('--to', metavar='<time>', type=_time, dest='end',
                            help='End there, not a week after the beginning.')
        parser.add_argument(
            '--zone', metavar='<zone>', type=_zone,
            default='UTC',
            help='Time zone, such as Europe/Berlin (default: UTC).')
        return parser

    def run(self, parsed_args):
        super().run(parsed_args)
        return 1 if self._conflicts else 0

    def take_action(self, parsed_args):
        self._zone = parsed_args.zone
        self._conflicts = False
        conn = self.app.client_manager.kongming
        if parsed_args.figures:
            return self._of_figures(conn, parsed_args)
        begin, end = _span(parsed_args)
        if parsed_args.host:
            return self._of_host(conn, parsed_args.host, begin, end)
        if parsed_args.flavor:
            desired = template.decode(cloud.template_flavor(
                conn, parsed_args.flavor).extra_specs)
            if desired.goes_by_zones:
                self._warn_of_flavor(conn)
        else:
            desired = template_options.described(parsed_args.file, {})
        return ('from', 'to', 'profile', 'change'), [
            (*self._times(period), period.profile, _change(desired, period))
            for period in calendar.periods(desired, None, begin, end)]

    def _of_host(self, conn, name, begin, end):
        host, = cloud.hosts(conn, name)
        residents, problems = servers.residents(conn, host.uuid, host.state)
        mine = zones.database().version
        if host.zones != mine and any(
                resident.flavor.goes_by_zones for resident in residents):
            problems.append(
                f'{host.name} decides by time zones of '
                f'{host.zones or "a version that it does not tell"}, this is '
                f'shown by those of {mine}; where they differ, the host is '
                f"right. {_SAME}")
        for problem in problems:
            self.app.stderr.write(f'warning: {problem}\n')
        entries = calendar.of_host(residents, host.state, begin, end)
        self._conflicts = any(entry.conflicts for entry in entries)
        return ('from', 'to', 'server', 'profile', 'change', 'conflict'), [
            (*self._times(entry.period), entry.server.name,
             entry.period.profile, _change(entry.server.flavor, entry.period),
             ConflictsColumn(entry.conflicts)) for entry in entries]

    def _of_figures(self, conn, parsed_args):
        if parsed_args.host or any((parsed_args.at, parsed_args.begin,
                                    parsed_args.end)):
            raise exceptions.CommandError(
                '--figures goes with a document or --flavor, and has its own '
                'times; leave out --host, --at, --from and --to.')
        desired = template.decode(cloud.template_flavor(
            conn, parsed_args.flavor).extra_specs) if (
                parsed_args.flavor) else template_options.described(
                    parsed_args.file, {})
        try:
            with open(parsed_args.figures, encoding='utf-8') as file:
                found = replay.periods(recording.load(file), desired)
        except OSError as exc:
            raise exceptions.CommandError(
                f"'{parsed_args.figures}' can not be read: "
                f'{exc.strerror}') from exc
        return ('from', 'to', 'server', 'profile', 'because', 'change'), [
            (*self._times(period), server.name, period.profile,
             because or None, _change(desired, period))
            for server, period, because in found]

    def _warn_of_flavor(self, conn):
        mine = zones.database().version
        other = cloud.other_zones(conn, mine)
        if other:
            names = ', '.join(other[:_NAMES]) + (
                ', ...' if len(other) > _NAMES else '')
            self.app.stderr.write(
                f'warning: {len(other)} node(s) of hosts do not decide by '
                f'time zones of {mine}, by which this is shown ({names}); '
                f'windows may begin and end there at another time. {_SAME}\n')

    def _times(self, period):
        return (period.begin.astimezone(self._zone).isoformat(),
                period.end and period.end.astimezone(self._zone).isoformat())


def _change(desired, period):
    return template_options.SpecsColumn(
        {} if period.profile is None
        else calendar.effect(desired.profiles[period.profile]))


def _span(parsed_args):
    """Beginning and end, both aware; no end for one moment."""
    at, begin, end = (
        moment and _aware(moment, parsed_args.zone)
        for moment in (parsed_args.at, parsed_args.begin, parsed_args.end))
    if at:
        if begin or end:
            raise exceptions.CommandError(
                '--at is one moment; leave out --from and --to.')
        return at, None
    begin = begin or datetime.datetime.now(
        datetime.timezone.utc).replace(microsecond=0)
    end = end or begin + _WEEK
    if not begin < end:
        raise exceptions.CommandError(
            f'The calendar would end ({end.isoformat()}) before it begins '
            f'({begin.isoformat()}).')
    if end - begin > _MOST:
        raise exceptions.CommandError(
            f'A calendar of more than {_MOST.days} days is too long.')
    return begin, end


def _aware(moment, zone):
    if moment.tzinfo is not None:
        return moment
    # Arithmetic and comparison inside one zone leave its offsets out.
    known = moment.replace(tzinfo=zone).astimezone(datetime.timezone.utc)
    if known.astimezone(zone).replace(tzinfo=None) != moment:
        raise exceptions.CommandError(
            f'There is no {moment.isoformat()} in {zone}: clocks are set '
            f'forward there.')
    return known
