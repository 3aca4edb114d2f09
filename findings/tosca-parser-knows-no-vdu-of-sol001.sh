#!/usr/bin/env bash
# tosca-parser 2.15.0: its profile for NFV has the types of a draft, none of
# those that descriptors by ETSI NFV-SOL 001 are made of.
#
# Guess:  a parser that takes tosca_simple_profile_for_nfv_1_0_0 takes a node
#         of the type tosca.nodes.nfv.Vdu.Compute.
# Seen:   the version is taken, and the type is not valid: the profile has
#         tosca.nodes.nfv.VDU, VL and CP (toscaparser/extensions/nfv/
#         TOSCA_nfv_definition_1_0_0.yaml), as ETSI's types have not been called
#         since SOL 001 came out. With tosca_simple_yaml_1_3 it is the same.
# Matters: only a descriptor that imports ETSI's own type files can be parsed
#         so. KongMing reads what a descriptor says of a VDU from its structure,
#         and asks for no import.
set -eu -o pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'tosca-parser==2.15.0'
cat >"$folder/parse.py" <<'EOF'
import sys

from toscaparser import tosca_template
from toscaparser.common import exception

version, kind = sys.argv[1:]
try:
    found = tosca_template.ToscaTemplate(yaml_dict_tpl={
        'tosca_definitions_version': version,
        'topology_template': {'node_templates': {'du': {'type': kind}}}})
    print('parsed', *(node.type for node in found.nodetemplates))
except exception.ValidationError as exc:
    print(next(line.strip() for line in str(exc).splitlines()
               if 'InvalidTypeError' in line))
EOF
cd "$folder"
status=0
expect() {
    found=$(venv/bin/python -W ignore parse.py "$1" "$2" 2>err)
    echo "$1, $2: $found"
    [ "$found" = "$3" ] || status=1
}
refused='InvalidTypeError: Type "tosca.nodes.nfv.Vdu.Compute" is not a valid type.'
expect tosca_simple_profile_for_nfv_1_0_0 tosca.nodes.nfv.Vdu.Compute "$refused"
expect tosca_simple_yaml_1_3 tosca.nodes.nfv.Vdu.Compute "$refused"
expect tosca_simple_profile_for_nfv_1_0_0 tosca.nodes.nfv.VDU \
    'parsed tosca.nodes.nfv.VDU'
[ $status = 0 ]
echo OK
