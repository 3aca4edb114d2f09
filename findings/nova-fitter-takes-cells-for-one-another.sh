#!/usr/bin/env bash
# Nova 34.0.0: numa_fit_instance_to_host refuses guests of which there is a
# place, where their NUMA cells differ in size.
#
# Guess:  it tries every order of the host's nodes, so it refuses only what fits
#         nowhere.
# Seen:   nodes with 0, 2 and 1 free pCPUs have a place for a cell of one vCPU
#         and a cell of two. It is refused; with the cells in the other order it
#         is taken. Which cells a node can't take is remembered by the id of the
#         guest's cell, and that id is overwritten with the node's while a cell
#         is fitted.
#         (nova/virt/hardware.py, numa_fit_instance_to_host and
#         _numa_fit_instance_cell.)
# Matters: the scheduler's filter and the claim on the host both ask it, so
#         "No valid host" is no proof that there is none. Cells that are equal
#         are safe.
set -eu -o pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'nova==34.0.0' 'SQLAlchemy==2.0.52' \
    'alembic==1.19.1'
cat >"$folder/look.py" <<'EOF'
import itertools

from nova import objects
from nova.virt import hardware

objects.register_all()


def host(free):
    """Nodes of four pCPUs, and how many of each are free."""
    cells = []
    for number, count in enumerate(free):
        pcpus = set(range(4 * number, 4 * number + 4))
        cells.append(objects.NUMACell(
            id=number, cpuset=set(), pcpuset=pcpus, memory=4096, socket=0,
            cpu_usage=4 - count, memory_usage=0,
            pinned_cpus=set(sorted(pcpus)[count:]),
            siblings=[{pcpu} for pcpu in pcpus],
            mempages=[objects.NUMAPagesTopology(
                size_kb=4, total=1 << 20, used=0)]))
    return objects.NUMATopology(cells=cells)


def guest(sizes):
    """Cells of so many dedicated vCPUs."""
    vcpus = iter(range(sum(sizes)))
    return objects.InstanceNUMATopology(cells=[
        objects.InstanceNUMACell(
            id=number, cpuset=set(), memory=64, cpu_policy='dedicated',
            pcpuset=set(itertools.islice(vcpus, size)))
        for number, size in enumerate(sizes)])


def answer(free, sizes):
    found = hardware.numa_fit_instance_to_host(
        host(free), guest(sizes), provider_mapping=None)
    return 'refused' if found is None else [
        (cell.id, sorted(cell.cpu_pinning.values())) for cell in found.cells]


found = [answer((0, 2, 1), sizes) for sizes in ((1, 2), (2, 1), (1, 1))]
print(found)
assert found[0] == 'refused', found
assert found[1] == [(1, [4, 5]), (2, [8])], found
assert 'refused' not in found[2:], found
print('OK')
EOF
"$folder/venv/bin/python" -W ignore "$folder/look.py" 2>/dev/null
