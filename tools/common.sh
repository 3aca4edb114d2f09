# Shared by the programs in tools/: one environment, made once.
# Nothing here changes the system but apt packages that bindep.txt names.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${KONGMING_VENV:-$top/.venv}
nova=${KONGMING_NOVA:-34}

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Debian packages of bindep.txt, of one profile, that are not installed.
missing_packages() { # PROFILE
    local name
    sed -n "s/^\([a-z0-9][^ #]*\) .*platform:dpkg.*\<$1\>.*/\1/p" \
        "$top/bindep.txt" | while read -r name; do
        dpkg-query -W -f='${Status}' "$name" 2>/dev/null |
            grep -q 'ok installed' || echo "$name"
    done
}

install_packages() { # [PROFILE]
    command -v dpkg-query >/dev/null || {
        say "not a Debian or Ubuntu: install what bindep.txt names by hand"
        return 0
    }
    local names
    names=$(missing_packages "${1:-test}" | tr '\n' ' ')
    [ -z "${names// /}" ] && return 0
    local run="apt-get install -y --no-install-recommends $names"
    if [ "$(id -u)" = 0 ]; then
        sudo=
    elif sudo -n true 2>/dev/null; then
        sudo=sudo
    else
        die "system packages are missing; run:
    sudo apt-get update && sudo $run"
    fi
    say "installing system packages: $names"
    $sudo apt-get update -q >&2 || die "apt-get update failed, see above"
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q \
        --no-install-recommends $names >"$top/.apt.log" 2>&1 || {
        tail -n 20 "$top/.apt.log" >&2
        die "apt-get install failed; the whole log is in .apt.log"
    }
}

# What the environment is made of; it is made anew where this changes.
needs() {
    cat "$top"/*requirements.txt "$top/constraints/nova-$nova.txt" |
        sha256sum
    sed -n '/^\[extras\]/,/^\[entry/p' "$top/setup.cfg" | sha256sum
}

# What is installed of the project itself.
sources() {
    find "$top/kongming" "$top/nova_ext" "$top/osc_plugin" "$top/shim" \
        "$top/setup.cfg" "$top/setup.py" -type f -not -name '*.pyc' \
        -exec sha256sum {} + | sort | sha256sum
}

make_venv() {
    local constraints="$top/constraints/nova-$nova.txt"
    [ -f "$constraints" ] || die "there is no constraints/nova-$nova.txt;
    KONGMING_NOVA can be: $(cd "$top/constraints" && ls nova-*.txt |
        sed 's/nova-\(.*\).txt/\1/' | tr '\n' ' ')"
    if [ "$(cat "$venv/.needs" 2>/dev/null)" != "$(needs)" ]; then
        say "making the environment $venv for Nova $nova (minutes, once)"
        rm -f "$venv/.sources"
        [ -x "$venv/bin/python" ] || python3 -m venv "$venv" ||
            die "python3 -m venv failed; is python3-venv installed?"
        "$venv/bin/pip" install -q -c "$constraints" pip setuptools wheel \
            pbr || die "pip could not install its own tools"
        ( cd "$top" && "$venv/bin/pip" install -q -c "$constraints" \
            -r requirements.txt -r test-requirements.txt libvirt-python ) ||
            die "pip install failed, see above"
        needs >"$venv/.needs"
    fi
    if [ "$(cat "$venv/.sources" 2>/dev/null)" != "$(sources)" ]; then
        say "installing kongming into $venv"
        # Not editable: what setup.py puts into nova/virt has to be a file.
        ( cd "$top" && "$venv/bin/pip" install -q --no-deps \
            --no-build-isolation --force-reinstall . ) ||
            die "pip install failed, see above"
        rm -rf "$top/build" "$top/kongming.egg-info"
        sources >"$venv/.sources"
    fi
}

# A libvirtd to talk to; starts one by hand where no init system does.
start_libvirtd() {
    virsh -c qemu:///system version >/dev/null 2>&1 && return 0
    [ "$(id -u)" = 0 ] || {
        say "no libvirtd answers and only root can start one"
        return 1
    }
    # QEMU runs as libvirt-qemu, of the group kvm; containers hand out
    # /dev/kvm for root only.
    if [ -c /dev/kvm ] && [ "$(stat -c %G /dev/kvm)" != kvm ]; then
        chgrp kvm /dev/kvm && chmod 660 /dev/kvm
    fi
    say "starting virtlogd and libvirtd"
    # One that runs already holds its pid file: the second one just ends.
    virtlogd -d 2>/dev/null || true
    libvirtd -d 2>/dev/null || true
    for _ in $(seq 30); do
        virsh -c qemu:///system version >/dev/null 2>&1 && return 0
        sleep 1
    done
    say "libvirtd does not answer"
    return 1
}
