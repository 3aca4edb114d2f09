#!/usr/bin/env bash
# hypothesis 6.170.15: what a seed stands for follows the project's source.
#
# Guess:  with @hypothesis.seed(N) and no database the same test is given the
#         same examples, whatever else is in the project.
# Seen:   the constants of all modules that are imported from the project are
#         collected, and some values are drawn from them.  A constant more in a
#         module that the test never uses gives other examples.
#         (hypothesis/internal/conjecture/providers.py.)
# Matters: a seed names a failure for one state of the source only; what is to
#         be repeated after a change is the example itself.
set -eu -o pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q hypothesis==6.170.15
cd "$tmp"
cat >made.py <<'EOF'
import hashlib

import hypothesis
from hypothesis import strategies as st

import other  # noqa: F401

seen = []


@hypothesis.seed(2)
@hypothesis.settings(database=None, max_examples=300)
@hypothesis.given(st.integers(), st.text())
def test(number, text):
    seen.append((number, text))


test()
print(hashlib.sha256(repr(seen).encode()).hexdigest()[:16])
EOF
echo 'LIMIT = 100' >other.py
first=$("$tmp/venv/bin/python" made.py)
again=$("$tmp/venv/bin/python" made.py)
echo 'LIMIT = 100; MORE = 987654321' >other.py
changed=$("$tmp/venv/bin/python" made.py)
echo "same source: $first $again; one constant more: $changed"
[ "$first" = "$again" ]
[ "$first" != "$changed" ]
