#!/usr/bin/env bash
# libvirt 9.0.0: a list of CPUs with exclusions is another set than in Nova.
#
# Guess:  both read "0-3,^1" alike, so that one may be copied into the other:
#         what is excluded anywhere in the list is out.
# Seen:   that one is the same. libvirt goes from left to right
#         (src/util/virbitmap.c, virBitmapParseInternal): what comes after an
#         exclusion puts the CPU in again, and one before has excluded nothing
#         yet. Nova 34.0.0 takes exclusions away at the end
#         (nova/virt/hardware.py, parse_cpu_spec). Ranges are excluded in Nova
#         only; in libvirt they are an error.
# Matters: lists of Nova's options and extra specs mean what Nova makes of
#         them. KongMing reads those as Nova does, and gives libvirt bitmaps.
set -eu -o pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# virsh with all that it is linked to, of Debian 12, beside this system's.
: >"$folder/status"
mkdir -p "$folder/archives/partial" "$folder/root"
apt-get -qq -o Dir::State::status="$folder/status" \
    -o Dir::Cache::archives="$folder/archives" -o Debug::NoLocking=1 \
    --no-install-recommends --download-only --yes install \
    'libvirt-clients=9.0.0-4+deb12u2' >"$folder/apt" 2>&1 ||
    { cat "$folder/apt" >&2; exit 1; }
for package in "$folder"/archives/*.deb; do
    dpkg -x "$package" "$folder/root"
done
libraries=$folder/root/lib/x86_64-linux-gnu:$folder/root/usr/lib/x86_64-linux-gnu
virsh() {
    "$folder/root/lib64/ld-linux-x86-64.so.2" --library-path "$libraries" \
        "$folder/root/usr/bin/virsh" -q -c test:///default "$@"
}
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'nova==34.0.0' 'SQLAlchemy==2.0.52' \
    'alembic==1.19.1'
by_libvirt() {
    cat >"$folder/domain.xml" <<XML
<domain type='test'><name>look</name><memory>1024</memory>
<vcpu placement='static' cpuset='$1'>4</vcpu><os><type>hvm</type></os></domain>
XML
    virsh "define $folder/domain.xml; dumpxml look" 2>"$folder/said" |
        grep -o "cpuset='[^']*'" || grep -o 'Failed to parse bitmap' \
        "$folder/said"
}
by_nova() {
    OS_NOVA_DISABLE_EVENTLET_PATCHING=true "$folder/venv/bin/python" \
        -W ignore -c 'import sys
from nova.virt import hardware
print(hardware.format_cpu_spec(
    hardware.parse_cpu_spec(sys.argv[1]), allow_ranges=False))' "$1" \
        2>/dev/null
}
for list in 0-3,^1 ^1,0-3 0-3,^1,1 0-3,^1-2; do
    echo "$list: libvirt $(by_libvirt "$list"), Nova $(by_nova "$list")"
done | tee "$folder/out"
diff - "$folder/out" <<'END'
0-3,^1: libvirt cpuset='0,2-3', Nova 0,2,3
^1,0-3: libvirt cpuset='0-3', Nova 0,2,3
0-3,^1,1: libvirt cpuset='0-3', Nova 0,2,3
0-3,^1-2: libvirt Failed to parse bitmap, Nova 0,3
END
