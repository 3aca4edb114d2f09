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

import jsonschema

from kongming.template import schema
from kongming.template import template
from tests import base

FILL = {'cell': '0', 'iothread': '1', 'profile': 'night'}


class SchemaTest(base.TestCase):

    def test_it_is_one(self):
        jsonschema.Draft202012Validator.check_schema(schema.load())

    def test_every_example_is_a_template(self):
        for key in schema.keys():
            self.assertTrue(key.examples, key)
            for example in key.examples:
                name = key.name.format(**FILL)
                template.check_entry(name, example)
                self.assertIn(name, template.encode(
                    template.decode({name: example})))

    def test_it_has_the_keys_that_the_parser_has(self):
        stems = {key.name.removeprefix('kongming:').replace('.{cell}', '')
                 .replace('.{iothread}', '') for key in schema.keys()}
        self.assertEqual(
            {*template.TEMPLATE_KEYS,
             *(f'profile.{{profile}}.{stem}'
               for stem in template.PROFILE_KEYS)}, stems)
