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

"""Placement, by its HTTP API.

One object a connection; every call is one request.  Errors are put in our
own words, with Placement's beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import datetime
import email.utils
from typing import Any
from typing import NamedTuple
import urllib.parse

from keystoneauth1 import exceptions as ksa_exc
from openstack import exceptions as sdk_exc

from kongming import exception
from kongming.placement import inventory

#: Consumer generations (1.28) are the newest that is needed, but to make a
#: provider a root again (1.37).
MICROVERSION = '1.28'
_UNPARENT = '1.37'
_CUSTOM = 'CUSTOM_'


class Listing(NamedTuple):
    """Providers, and what the answer says of its age.

    :ivar changed: when one of them was written last, by Placement's clock, in
        whole seconds; None where it is not said
    :ivar asked: when that was asked for, by the web server's clock
    """

    providers: list[dict[str, Any]]
    changed: datetime.datetime | None = None
    asked: datetime.datetime | None = None


@contextlib.contextmanager
def _reached(what: str) -> Iterator[None]:
    try:
        yield
    except (sdk_exc.EndpointNotFound, sdk_exc.ServiceDisabledException,
            ksa_exc.EndpointNotFound) as exc:
        raise exception.CloudError(
            'This cloud has no Placement endpoint in its catalog.') from exc
    except (sdk_exc.SDKException, ksa_exc.ClientException) as exc:
        raise exception.CloudError(
            f'Placement could not be asked ({what}): {exc}') from exc


class Placement:
    """:param adapter: keystoneauth1.adapter.Adapter, or
        ``openstack.connection.Connection.placement``
    """

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter

    @classmethod
    def of(cls, conn: Any) -> Placement:
        """
        :param conn: openstack.connection.Connection
        :raises kongming.exception.CloudError: if it leads to none; some
            releases of openstacksdk look for it only when it is used
        """
        with _reached('where it is'):
            return cls(conn.placement)

    def _call(self, method: str, path: str,
              microversion: str = MICROVERSION, **kwargs: Any) -> Any:
        response = self._answer(method, path, microversion, **kwargs)
        return response.json() if response.content else None

    def _answer(self, method: str, path: str, microversion: str,
                **kwargs: Any) -> Any:
        with _reached(f'{method} {path}'):
            response = self._adapter.request(
                path, method, microversion=microversion, raise_exc=False,
                **kwargs)
        if response.status_code >= 400:
            raise _error(response, method, path)
        return response

    def get(self, path: str) -> Any:
        """What Placement answers, parsed.

        :raises kongming.exception.CloudError: or one of its kinds, where it
            does not
        """
        return self._call('GET', path)

    def providers(self, **query: str) -> list[dict[str, Any]]:
        """:param query: filters: name, uuid, in_tree, member_of, required"""
        suffix = f'?{urllib.parse.urlencode(query)}' if query else ''
        found: list[dict[str, Any]] = self.get(
            f'/resource_providers{suffix}')['resource_providers']
        return found

    def with_trait(self, trait: str) -> list[dict[str, Any]]:
        """Providers that have a trait; none where it is not known at all."""
        try:
            return self.providers(required=trait)
        except exception.Invalid:
            return []

    def listed(self, trait: str) -> Listing:
        """Providers that have a trait, and when one was changed last."""
        query = urllib.parse.urlencode({'required': trait})
        try:
            response = self._answer('GET', f'/resource_providers?{query}',
                                    MICROVERSION)
        except exception.Invalid:
            return Listing([])
        return Listing(response.json()['resource_providers'],
                       _date(response, 'Last-Modified'),
                       _date(response, 'Date'))

    def candidates(self, resource: str) -> dict[str, Any]:
        """All providers that have one of a class left, and what they have.

        :returns: as Placement answers
        """
        try:
            found: dict[str, Any] = self.get(
                f'/allocation_candidates?resources={resource}:1')
        except exception.Invalid:
            # No such class, so no such provider.
            return {'allocation_requests': [], 'provider_summaries': {}}
        return found

    def root(self, name: str) -> dict[str, Any]:
        """The provider of a compute node.

        :raises kongming.exception.NotFound: if there is none
        """
        found = self.providers(name=name)
        if not found:
            raise exception.NotFound(
                f"Placement knows no host '{name}'. It is the compute node's "
                f"name in 'openstack hypervisor list' that is meant.")
        return found[0]

    def inventories(self, uuid: str) -> tuple[int, dict[str, dict[str, Any]]]:
        """The provider's generation, and class -> record."""
        found = self.get(f'/resource_providers/{uuid}/inventories')
        return (found['resource_provider_generation'], found['inventories'])

    def traits(self, uuid: str) -> frozenset[str]:
        """Names of a provider's traits."""
        return frozenset(
            self.get(f'/resource_providers/{uuid}/traits')['traits'])

    def allocations(self, uuid: str) -> dict[str, dict[str, int]]:
        """consumer -> class -> amount, on one provider."""
        found = self.get(f'/resource_providers/{uuid}/allocations')
        return {consumer: allocation['resources'] for consumer, allocation
                in found['allocations'].items()}

    def usages(self, project: str) -> dict[str, int]:
        """class -> what all consumers of a project have, wherever."""
        query = urllib.parse.urlencode({'project_id': project})
        return dict(self.get(f'/usages?{query}')['usages'])

    def allocations_of(self, consumer: str) -> dict[str, Any]:
        """All that one has, wherever; with what is needed to write it.

        :returns: as :meth:`reallocate` takes it
        """
        found = self.get(f'/allocations/{consumer}')
        return {'allocations': found['allocations'],
                'project_id': found.get('project_id'),
                'user_id': found.get('user_id'),
                'consumer_generation': found.get('consumer_generation')}

    def reallocate(self, wanted: Mapping[str, Mapping[str, Any]]) -> None:
        """Rewrite what consumers have, all or none.

        :param wanted: consumer -> what :meth:`allocations_of` has said, with
            other ``allocations``
        :raises kongming.exception.Conflict: if somebody changed one of them
            meanwhile, or there is not enough
        """
        self._call('POST', '/allocations', json=dict(wanted))

    def withdraw(self, consumer: str, providers: Collection[str],
                 found: Mapping[str, Any] | None = None
                 ) -> dict[str, Any] | None:
        """Free what a consumer has on some providers, in one try.

        What it has on others stays.

        :param providers: their uuids
        :param found: what :meth:`allocations_of` has said before it was
            decided
        :returns: what it has left; None where it had nothing there
        :raises kongming.exception.Conflict: if somebody changed it meanwhile
        """
        found = found or self.allocations_of(consumer)
        left = {uuid: allocation
                for uuid, allocation in found['allocations'].items()
                if uuid not in providers}
        if len(left) == len(found['allocations']):
            return None
        self._call('PUT', f'/allocations/{consumer}',
                   json={**found, 'allocations': left})
        return left

    def create(self, provider: inventory.Provider) -> int:
        """A root provider without anything.

        :returns: its generation
        :raises kongming.exception.Conflict: if there is one of its name or
            uuid
        """
        made = self._call('POST', '/resource_providers', json={
            'name': provider.name, 'uuid': provider.uuid})
        return int(made['generation'])

    def make_root(self, uuid: str, name: str) -> None:
        """Take a provider out of the tree that it is in.

        It keeps its uuid and what is allocated on it.
        """
        self._call('PUT', f'/resource_providers/{uuid}', _UNPARENT,
                   json={'name': name, 'parent_provider_uuid': None})

    def put_aggregates(self, uuid: str, generation: int,
                       aggregates: Iterable[str]) -> int:
        """:returns: the provider's generation after it"""
        found = self._call(
            'PUT', f'/resource_providers/{uuid}/aggregates', json={
                'resource_provider_generation': generation,
                'aggregates': sorted(aggregates)})
        return int(found['resource_provider_generation'])

    def delete(self, uuid: str) -> None:
        """:raises kongming.exception.Conflict: if something is allocated"""
        self._call('DELETE', f'/resource_providers/{uuid}')

    def put_inventory(self, uuid: str, generation: int, name: str,
                      record: Mapping[str, Any]) -> int:
        """One resource class that the provider has already.

        :returns: the provider's generation after it
        """
        found = self._call(
            'PUT', f'/resource_providers/{uuid}/inventories/{name}', json={
                'resource_provider_generation': generation, **record})
        return int(found['resource_provider_generation'])

    def put_inventories(self, uuid: str, generation: int,
                        inventories: Mapping[str, Mapping[str, Any]]) -> int:
        """:returns: the provider's generation after it"""
        found = self._put_known(
            f'/resource_providers/{uuid}/inventories', {
                'resource_provider_generation': generation,
                'inventories': inventories},
            lambda: self._make_resource_classes(inventories))
        return int(found['resource_provider_generation'])

    def put_traits(self, uuid: str, generation: int,
                   traits: Iterable[str]) -> int:
        """Make these a provider's traits, and no others.

        :returns: the provider's generation after it
        """
        names = sorted(traits)
        found = self._put_known(
            f'/resource_providers/{uuid}/traits', {
                'resource_provider_generation': generation, 'traits': names},
            lambda: self._make_traits(names))
        return int(found['resource_provider_generation'])

    def _put_known(self, path: str, body: Mapping[str, Any],
                   make: Callable[[], None]) -> Any:
        """Write, and make the names that Placement doesn't know, if any.

        Of most clouds it knows them all, so they are not asked for before.
        """
        try:
            return self._call('PUT', path, json=body)
        except exception.Invalid:
            make()
        # Also where nothing was missing any more: others make them, too.
        return self._call('PUT', path, json=body)

    def _make_resource_classes(self, names: Iterable[str]) -> None:
        known = {found['name'] for found in
                 self.get('/resource_classes')['resource_classes']}
        for name in sorted(set(names) - known):
            self._call('PUT', f'/resource_classes/{name}')

    def _make_traits(self, names: Sequence[str]) -> None:
        known = self.get('/traits?name=startswith:CUSTOM_')['traits']
        for name in names:
            if name not in known and name.startswith(_CUSTOM):
                self._call('PUT', f'/traits/{name}')


def _date(response: Any, name: str) -> datetime.datetime | None:
    """A header that is a date; None where it is not there or is none."""
    try:
        found = email.utils.parsedate_to_datetime(response.headers[name])
    except (LookupError, TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)


def _error(response: Any, method: str, path: str) -> exception.CloudError:
    try:
        first = response.json()['errors'][0]
        detail, code = first.get('detail') or '', first.get('code')
    except (ValueError, LookupError, TypeError, AttributeError):
        # Not Placement's own answer: a proxy's page, say.
        detail, code = response.text[:200], None
    text = (f'Placement refused {method} {path} ({response.status_code}): '
            f'{exception.printable(" ".join(detail.split()))}')
    match response.status_code:
        case 400:
            return exception.Invalid(text)
        case 401 | 403:
            return exception.Forbidden(
                'Placement refused: this needs the admin role (the policy of '
                'Placement says who may read and write its providers).')
        case 404:
            return exception.NotFound(text)
        case 409:
            return exception.Conflict(text, code)
    return exception.CloudError(text)
