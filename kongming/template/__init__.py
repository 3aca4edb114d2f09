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

"""The template of a server: its keys, its text forms, its parsers.

What it knows
-------------

template
    All that KongMing is asked for one server: a node and pins for each cell,
    emulator and I/O threads, memory binding, scheduler, QoS, caches, profiles
    and grants.
profile
    A named overlay on the template, such as ``night``.  It is active in
    windows of local time, while conditions on the server's load hold, or on
    request.
grant
    What the flavor lets the metadata of a server ask for.
guest
    What *kind* of CPUs and memory each cell has, by Nova's ``hw:`` keys.  The
    template says *which*.

A template has four forms: extra specs of a flavor, metadata of a server, a
YAML or JSON document, and what VNF descriptors say (:mod:`kongming.vnfd`).
Decoding and encoding gives the same text back.  ``template-v1.json`` is the
one list of the keys: nova-api's validator, the check of documents and the
documentation read it.

What it decides
---------------

Whether a template is well formed.  An error names the key, the value, the
column and what is allowed.

What it never does
------------------

It knows no host: relative addresses stay relative, and whether a pCPU exists
is a question for :mod:`kongming.fit`.  It does not decide whether metadata is
obeyed; :mod:`kongming.intent` does.

Public names
------------

``template.has_template``, ``decode``, ``encode`` and ``Template``;
``document.parse`` and ``to_document``; ``schema.keys``; ``guest.Guest`` and
``from_flavor``; ``metadata.express``; ``grammar.resolve``; the entries
``tuning.Sched``, ``Qos`` and ``Cache``; ``cache_claims.claims``;
``window.active``; ``when.windows``; ``condition.Condition``; ``zones.zone``;
``markup.load``.

Reading order
-------------

1. ``grammar``: ids, addresses and pins; columns of errors.
2. ``choices``, ``tuning``, ``zones``, ``window``, ``condition``, ``when``: the
   other kinds of values.
3. ``template``: the template and its flat keys.
4. ``markup``, ``schema``, ``document``: a template as a document.
5. ``guest``: what Nova's own keys ask for.
6. ``cache_claims``: what a template claims of caches and bandwidth.
7. ``metadata``: the keys that make a running server follow a template.
"""

__all__ = (
    'cache_claims', 'choices', 'condition', 'document', 'grammar', 'guest',
    'markup', 'metadata', 'schema', 'template', 'tuning', 'when', 'window',
    'zones',
)
