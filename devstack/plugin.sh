# devstack plugin of KongMing: source plugin.sh MODE [PHASE]
# shellcheck shell=bash
# Of devstack:
# shellcheck disable=SC2154

KONGMING_DIR=${KONGMING_DIR:-$DEST/kongming}

# The interpreter that Nova's services run with.
function _kongming_python {
    if [[ "${GLOBAL_VENV:-False}" == "True" ]]; then
        echo "$DEVSTACK_VENV/bin/python3"
    else
        echo "python$PYTHON3_VERSION"
    fi
}

function install_kongming {
    setup_install "$KONGMING_DIR"
    # Nova is installed from its tree (pip install -e), so the driver has to
    # go there; git is told that it is nobody's change.
    if is_service_enabled n-cpu; then
        cp "$KONGMING_DIR/shim/kongming.py" "$NOVA_DIR/nova/virt/"
        local exclude="$NOVA_DIR/.git/info/exclude"
        grep -qsx /nova/virt/kongming.py "$exclude" || \
            echo /nova/virt/kongming.py >> "$exclude"
    fi
}

# All pCPUs of this machine but those of a list such as 0-1,8.
function _kongming_all_but {
    "$(_kongming_python)" - "$1" <<'PYTHON'
import os
import sys

from kongming.host import topology

print(topology.format_cpu_list(
    set(range(os.cpu_count())) - topology.parse_cpu_list(sys.argv[1])))
PYTHON
}

function configure_kongming_compute {
    local dedicated=$KONGMING_DEDICATED_SET
    if [[ -z "$dedicated" ]]; then
        dedicated=$(_kongming_all_but "$KONGMING_SHARED_SET")
    fi
    [[ -n "$dedicated" ]] || \
        die $LINENO "KongMing: no pCPU is left for cpu_dedicated_set"
    # nova-cpu.conf is made of this when nova-compute is started.
    iniset "$NOVA_CONF" DEFAULT compute_driver kongming.LibvirtDriver
    iniset "$NOVA_CONF" compute cpu_shared_set "$KONGMING_SHARED_SET"
    iniset "$NOVA_CONF" compute cpu_dedicated_set "$dedicated"
}

function configure_kongming_scheduler {
    local filters
    filters=$(iniget "$NOVA_CONF" filter_scheduler enabled_filters)
    filters=${filters:-$NOVA_FILTERS}
    filters=${filters%,NUMATopologyFilter}
    iniset "$NOVA_CONF" filter_scheduler enabled_filters \
        "$filters,KongmingFilter,NUMATopologyFilter"
    iniset_multiline "$NOVA_CONF" filter_scheduler available_filters \
        nova.scheduler.filters.all_filters nova_ext.filters.KongmingFilter
    if [[ "$KONGMING_WEIGHER" == "True" ]]; then
        iniset_multiline "$NOVA_CONF" filter_scheduler weight_classes \
            nova.scheduler.weights.all_weighers \
            nova_ext.weights.KongmingWeigher
    fi
}

# Or several servers are granted one pCPU: MySQL and MariaDB, see admin.rst.
function configure_kongming_placement {
    iniset "$PLACEMENT_CONF" placement allocation_conflict_retry_count 1
}

function cleanup_kongming {
    rm -f "$NOVA_DIR/nova/virt/kongming.py"
    if [[ "${GLOBAL_VENV:-False}" == "True" ]]; then
        "$DEVSTACK_VENV/bin/pip" uninstall -y kongming || true
    else
        pip_uninstall kongming
    fi
}

case "$1 ${2:-}" in
    "stack install")
        echo_summary "Installing KongMing"
        install_kongming
        ;;
    "stack post-config")
        echo_summary "Configuring KongMing"
        if is_service_enabled n-cpu; then
            configure_kongming_compute
        fi
        if is_service_enabled n-sch; then
            configure_kongming_scheduler
        fi
        if is_service_enabled placement-api; then
            configure_kongming_placement
        fi
        ;;
    clean*)
        cleanup_kongming
        ;;
esac
