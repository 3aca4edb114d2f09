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

"""Requests of Nova's API, and lists that are longer than a page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib import parse

from openstack import exceptions as sdk_exc

from kongming import exception

#: Image properties of a server (nova/api/openstack/compute/
#: rest_api_version_history.rst, 2.98); its pins are shown since 2.78, and
#: servers of cells that are down since 2.69.
MICROVERSION = '2.98'


def get(conn: Any, path: str, microversion: str = MICROVERSION) -> Any:
    """What Nova answers.

    :raises kongming.exception.Forbidden: if this user may not ask it
    :raises kongming.exception.NotFound: if there is no such thing
    :raises kongming.exception.CloudError: if it doesn't
    """
    try:
        response = conn.compute.get(path, microversion=microversion)
        sdk_exc.raise_from_response(response)
    except sdk_exc.ForbiddenException as exc:
        raise exception.Forbidden(
            'Nova refused: this needs the admin role.') from exc
    except sdk_exc.NotFoundException as exc:
        raise exception.NotFound(
            f'Nova could not be asked for {path}: {exc}') from exc
    except sdk_exc.HttpException as exc:
        if exc.status_code == 406:
            raise exception.CloudError(
                f'This Nova is too old: it does not know the compute API '
                f'microversion {microversion}, which KongMing needs '
                f'({exc.details}).') from exc
        raise exception.CloudError(
            f'Nova could not be asked for {path}: {exc}') from exc
    except sdk_exc.SDKException as exc:
        raise exception.CloudError(
            f'Nova could not be asked for {path}: {exc}') from exc
    return response.json()


def entries(conn: Any, path: str, key: str,
            microversion: str = MICROVERSION,
            links: str | None = None) -> Iterator[dict[str, Any]]:
    """All of a list, page by page.

    Nova decides how long a page is (``[api] max_limit``) and says where the
    next one is (nova/api/openstack/common.py, ``_get_collection_links``).

    :param key: what the list is called in the answer, such as ``servers``
    :param links: what the address of the next page is called; as the list,
        with ``_links``, where it is not said
    :raises kongming.exception.CloudError: as :func:`get` does
    """
    where, query = path.partition('?')[0], path.partition('?')[2]
    seen = set()
    while query not in seen:
        seen.add(query)
        page = get(conn, f'{where}?{query}' if query else where,
                   microversion)
        yield from page[key]
        linked = page.get(links or f'{key}_links', ())
        following = [link['href'] for link in linked
                     if link.get('rel') == 'next']
        if not following:
            return
        # The address may be one that only a proxy knows.
        query = parse.urlsplit(following[0]).query
    raise exception.CloudError(
        f'Nova goes round in its pages of {where}: {query} comes twice.')
