from backends import MATCH_ALL, MATCH_NONE, And, Compare, and_

ADA = Compare("name", "=", "ada")


def test_and_leaves_out_match_all() -> None:
    assert and_(MATCH_ALL, ADA) is ADA
    assert and_(ADA, MATCH_ALL) is ADA


def test_and_joins_two_conditions() -> None:
    assert and_(ADA, MATCH_NONE) == And((ADA, MATCH_NONE))
