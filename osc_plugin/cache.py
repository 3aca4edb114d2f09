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

"""What was read of a cloud, kept for the next command of the same user.

A file is of one cloud, one user in one project and one version of KongMing.
Nobody else may read it, and whatever is not as it should be is not there.
"""

from __future__ import annotations

import contextlib
import hashlib
from importlib import metadata
import json
import os
import pathlib
import stat
import tempfile
from typing import Any

from openstack import connection
from openstack import exceptions as sdk_exc

#: Of the layout of what is kept.
_LAYOUT = 2


class Cache:
    """:param key: what has to be the same for it to be of use

    :param folder: where the file lies; made where it is not there
    """

    def __init__(self, key: list[str], folder: pathlib.Path) -> None:
        self._key = key
        self._folder = folder
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()
        self._path = folder / f'{name}.json'

    @classmethod
    def of(cls, conn: connection.Connection, *what: str) -> Cache | None:
        """That of this cloud and user; None where they can't be told.

        :param what: is kept, if that is not what Placement says of nodes
        """
        try:
            endpoint = conn.placement.get_endpoint()
            user, project = conn.current_user_id, conn.current_project_id
            folder = _folder()
        except (sdk_exc.SDKException, AttributeError, RuntimeError):
            return None
        if not endpoint or not user:
            return None
        return cls([str(_LAYOUT), _version(), str(endpoint), str(user),
                    str(project), *what], folder)

    def load(self) -> dict[str, Any]:
        """What was kept; nothing where that is not to be trusted."""
        try:
            opened = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW)
            with open(opened, encoding='utf-8') as source:
                found = os.fstat(source.fileno())
                if (found.st_uid != os.geteuid()
                        or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
                    return {}
                kept = json.load(source)
            if kept['key'] != self._key or not isinstance(
                    kept['content'], dict):
                return {}
            content: dict[str, Any] = kept['content']
            return content
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}

    def store(self, content: dict[str, Any]) -> None:
        """Keep this, whole or not at all; a full disk is no error."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # With 0600, whatever the umask is.
            made, name = tempfile.mkstemp(dir=self._folder, suffix='.new')
            try:
                with open(made, 'w', encoding='utf-8') as target:
                    # In one piece, which the C encoder does.
                    target.write(json.dumps(
                        {'key': self._key, 'content': content},
                        separators=(',', ':')))
                os.replace(name, self._path)
            except OSError:
                os.unlink(name)
                raise


def _version() -> str:
    try:
        return metadata.version('kongming')
    except metadata.PackageNotFoundError:
        return 'unknown'


def _folder() -> pathlib.Path:
    """By the XDG Base Directory Specification.

    :raises RuntimeError: if the user has no home
    """
    given = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '')
    base = given if given.is_absolute() else pathlib.Path.home() / '.cache'
    return base / 'kongming'
