#!/usr/bin/env bash
# openstack.cloud 2.5.0: no module of this collection (in ansible 12.3.0) runs
# with openstacksdk 4.22.0.
#
# Guess:  a collection that asks for "openstacksdk>=1.0.0" runs with any newer
#         one.
# Seen:   "module 'openstack' has no attribute 'version'", before anything is
#         asked of a cloud: the collection reads openstack.version without
#         importing it, and openstacksdk does not import it by itself any more.
#         With 4.4.1 it does, and the module goes on to the cloud.
#         (plugins/module_utils/openstack.py, OpenStackModule.__init__.)
# Matters: the interpreter of Ansible's modules needs an openstacksdk of its
#         own where the client has a new one.
set -eu -o pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'ansible==12.3.0' 'openstacksdk==4.22.0'
cat >"$folder/clouds.yaml" <<'EOF'
clouds:
  none:
    auth: {auth_url: "http://127.0.0.1:1/v3", username: u, password: p,
           project_name: p, user_domain_id: default,
           project_domain_id: default}
EOF
cd "$folder"
export OS_CLIENT_CONFIG_FILE=$folder/clouds.yaml OS_CLOUD=none
export ANSIBLE_NOCOLOR=1 ANSIBLE_LOCALHOST_WARNING=False

ask() {
    venv/bin/ansible localhost -c local -m openstack.cloud.compute_flavor_info \
        -e "ansible_python_interpreter=$folder/venv/bin/python3" >out 2>&1 ||
        true
    if grep -q "has no attribute 'version'" out; then
        echo 'no openstack.version'
    elif grep -q '127.0.0.1' out; then
        echo 'asks the cloud'
    else
        cat out
    fi
}

new=$(ask)
venv/bin/pip install -q 'openstacksdk==4.4.1'
old=$(ask)
echo "4.22.0: $new; 4.4.1: $old"
[ "$new" = 'no openstack.version' ]
[ "$old" = 'asks the cloud' ]
echo OK
