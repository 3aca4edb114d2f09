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

"""A host's changes in a minute, shared among projects."""

from hypothesis import given
from hypothesis import strategies as st

from kongming.intent import budget
from tests import base


def groups(projects):
    """A server of each of these projects, one letter each."""
    return [{f'{project}{number}': project}
            for number, project in enumerate(projects)]


def names(found):
    return ''.join(project for group in found for project in group.values())


class BudgetTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.budget = budget.Budget()

    def admit(self, projects, limit, now):
        return names(self.budget.admit(groups(projects), limit, now))

    def test_no_limit(self):
        self.assertEqual('aaaa', self.admit('aaaa', 0, 0.0))

    def test_one_project_has_all_that_nobody_else_wants(self):
        self.assertEqual('aaa', self.admit('aaaaa', 3, 0.0))
        self.assertEqual('', self.admit('aa', 3, 59.0))
        self.assertEqual('aa', self.admit('aa', 3, 60.0))

    def test_shared_among_projects(self):
        self.assertEqual('abab', self.admit('aaaaaabb', 4, 0.0))

    def test_who_has_had_the_least_comes_first(self):
        self.assertEqual('aaa', self.admit('aaa', 5, 0.0))
        self.assertEqual('bb', self.admit('aabb', 5, 30.0))

    def test_what_can_not_begin_uses_nothing(self):
        for limit in (0, 3):
            self.assertEqual('ab', names(self.budget.admit(
                groups('abab'), limit, 0.0, most=2)))
        self.assertEqual('a', self.admit('ab', 3, 0.0))

    def test_what_another_process_has_used(self):
        self.budget.admit([{'1': 'b'}], 9, 0.0)
        self.budget.restore([(-5.0, 'a'), (-40.0, 'a'), (-70.0, 'a')])
        self.assertEqual('b', self.admit('ab', 4, 0.0))
        self.assertEqual('', self.admit('ab', 4, 19.0))
        self.assertEqual('a', self.admit('ab', 4, 20.0))

    def test_a_group_changes_as_a_whole(self):
        three = {'1': 'a', '2': 'a', '3': 'b'}
        one = {'4': 'c'}
        self.assertEqual([one], self.budget.admit([one, three], 3, 0.0))
        # It is larger than the budget, which is there as a whole.
        self.assertEqual([three], self.budget.admit([three], 2, 60.0))
        self.assertEqual([], self.budget.admit([one], 2, 61.0))

    def test_when_there_is_more(self):
        self.assertEqual(0.0, self.budget.wait(0.0))
        self.admit('ab', 2, 10.0)
        self.assertEqual(50.0, self.budget.wait(20.0))

    @given(st.lists(st.sampled_from('abc'), max_size=30), st.integers(1, 12))
    def test_never_more_and_never_unfair(self, projects, limit):
        found = names(budget.Budget().admit(groups(projects), limit, 0.0))
        self.assertEqual(min(limit, len(projects)), len(found))
        for mine in set(projects):
            left = projects.count(mine) - found.count(mine)
            for other in set(found) - {mine} if left else ():
                # Nobody has two more than one who waits.
                self.assertLessEqual(found.count(other),
                                     found.count(mine) + 1)
