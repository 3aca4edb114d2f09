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

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
from typing import Any
import urllib.parse

from keystoneauth1 import exceptions as ksa_exc
from openstack import exceptions as sdk_exc

from kongming import exception
from kongming.placement import inventory

#: Consumer generations (1.28) are the newest that is needed.
MICROVERSION = '1.28'


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
        self._resource_classes: set[str] = set()
        self._traits: set[str] = set()

    @classmethod
    def of(cls, conn: Any) -> Placement:
        """
        :param conn: openstack.connection.Connection
        :raises kongming.exception.CloudError: if it leads to none; some
            releases of openstacksdk look for it only when it is used
        """
        with _reached('where it is'):
            return cls(conn.placement)

    def _call(self, method: str, path: str, **kwargs: Any) -> Any:
        with _reached(f'{method} {path}'):
            response = self._adapter.request(
                path, method, microversion=MICROVERSION, raise_exc=False,
                **kwargs)
        if response.status_code >= 400:
            raise _error(response, method, path)
        return response.json() if response.content else None

    def get(self, path: str) -> Any:
        """What Placement answers, parsed.

        :raises kongming.exception.CloudError: or one of its kinds, where it
            does not
        """
        return self._call('GET', path)

    def providers(self, **query: str) -> list[dict[str, Any]]:
        """:param query: filters: name, uuid, in_tree"""
        suffix = f'?{urllib.parse.urlencode(query)}' if query else ''
        found: list[dict[str, Any]] = self.get(
            f'/resource_providers{suffix}')['resource_providers']
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

    def move(self, wanted: Mapping[
            str, Mapping[str, Mapping[str, int]]]) -> None:
        """Rewrite what consumers have on our providers, all or none.

        What they have on other providers stays.

        :param wanted: consumer -> child's uuid -> class -> amount, see
            :func:`kongming.placement.reserved.moved`
        :raises kongming.exception.Conflict: if somebody changed one of them
            meanwhile, or there is not enough
        :raises kongming.exception.NotFound: if one has no allocation (more)
        """
        body = {}
        ours: dict[str, bool] = {}
        for consumer, resources in wanted.items():
            found = self.get(f'/allocations/{consumer}')
            if not found['allocations']:
                raise exception.NotFound(
                    f'{consumer} has nothing allocated in Placement')
            for uuid in found['allocations']:
                if uuid not in ours:
                    ours[uuid] = inventory.is_ours(self.get(
                        f'/resource_providers/{uuid}')['name'])
            body[consumer] = {
                'allocations': {
                    **{uuid: {'resources': allocation['resources']}
                       for uuid, allocation in found['allocations'].items()
                       if not ours[uuid]},
                    **{uuid: {'resources': dict(amounts)}
                       for uuid, amounts in resources.items()}},
                'project_id': found['project_id'],
                'user_id': found['user_id'],
                'consumer_generation': found['consumer_generation']}
        self._call('POST', '/allocations', json=body)

    def create(self, provider: inventory.Provider, parent: str) -> None:
        """A provider without inventories below another one, by its uuid."""
        self._call('POST', '/resource_providers', json={
            'name': provider.name, 'uuid': provider.uuid,
            'parent_provider_uuid': parent})

    def delete(self, uuid: str) -> None:
        """:raises kongming.exception.Conflict: if something is allocated"""
        self._call('DELETE', f'/resource_providers/{uuid}')

    def put_inventories(self, uuid: str, generation: int,
                        inventories: Mapping[str, Mapping[str, Any]]) -> int:
        """:returns: the provider's generation after it"""
        self._ensure_resource_classes(inventories)
        found = self._call(
            'PUT', f'/resource_providers/{uuid}/inventories', json={
                'resource_provider_generation': generation,
                'inventories': inventories})
        return int(found['resource_provider_generation'])

    def put_traits(self, uuid: str, generation: int,
                   traits: Iterable[str]) -> None:
        """Make these a provider's traits, and no others."""
        names = sorted(traits)
        for name in sorted(set(names) - self._known_traits(names)):
            self._call('PUT', f'/traits/{name}')
            self._traits.add(name)
        self._call('PUT', f'/resource_providers/{uuid}/traits',
                   json={'resource_provider_generation': generation,
                         'traits': names})

    def _ensure_resource_classes(self, names: Iterable[str]) -> None:
        unknown = set(names) - self._resource_classes
        if not unknown:
            return
        self._resource_classes.update(
            found['name'] for found in
            self.get('/resource_classes')['resource_classes'])
        for name in sorted(unknown - self._resource_classes):
            self._call('PUT', f'/resource_classes/{name}')
            self._resource_classes.add(name)

    def _known_traits(self, names: Iterable[str]) -> set[str]:
        unknown = set(names) - self._traits
        if unknown:
            self._traits.update(self.get(
                f"/traits?name=in:{','.join(sorted(unknown))}")['traits'])
        return self._traits


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
        case 401 | 403:
            return exception.Forbidden(
                'Placement refused: this needs the admin role (the policy of '
                'Placement says who may read and write its providers).')
        case 404:
            return exception.NotFound(text)
        case 409:
            return exception.Conflict(text, code)
    return exception.CloudError(text)
