"""Several processes: what they agree on, and how they end when one of them is gone."""

from learning import processes


def test_one_process_agrees_with_itself():
    assert processes.is_first() and processes.count() == 1
    assert processes.agree([True, False]) == [True, False]
    assert processes.from_first({'newest': 7}) == {'newest': 7}
    assert processes.gather('here') == ['here']
    processes.barrier('prepared')
