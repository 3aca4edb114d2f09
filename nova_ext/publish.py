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

"""The host's children in Nova's provider tree."""

from kongming import inventory


def update(provider_tree, nodename, host, ratios):
    """Make the tree hold what the library says that the host looks like.

    Everything is worked out before the tree is touched.  Children of ours
    whose node is gone are taken out; Nova's own provider is never written.

    :param provider_tree: nova.compute.provider_tree.ProviderTree
    :param nodename: name of the compute node's provider in it
    :param host: kongming.usage.HostState
    :param ratios: kongming.inventory.Ratios
    """
    root = provider_tree.data(nodename).uuid
    wanted = {p.uuid: p
              for p in inventory.build(nodename, root, host, ratios)}
    gone = [uuid for uuid in provider_tree.get_provider_uuids(nodename)
            if uuid not in wanted and _is_ours(provider_tree.data(uuid))]
    for uuid in gone:
        provider_tree.remove(uuid)
    for uuid, provider in wanted.items():
        if not provider_tree.exists(uuid):
            provider_tree.new_child(provider.name, root, uuid=uuid)
        provider_tree.update_inventory(uuid, dict(provider.inventory))
        provider_tree.update_traits(uuid, provider.traits)


def _is_ours(provider):
    return inventory.TRAIT_OWNER in provider.traits
