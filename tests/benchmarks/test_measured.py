from measured import medians, ratio, take_turns


def test_variants_take_turns_in_an_order_that_is_reversed_and_the_first_is_not_counted():
    called: list[str] = []

    def work(name):
        called.append(name)
        return len(called)

    found = take_turns({name: lambda n=name: work(n) for name in "ab"}, repeats=3)
    assert "".join(called) == "ba" + "ab" + "ba" + "ab"
    assert found == {"a": [3, 6, 7], "b": [4, 5, 8]}


def test_a_ratio_is_the_median_of_the_turns_ratios():
    theirs, ours = ([{"s": s} for s in of] for of in ([4.0, 40.0, 4.0], [2.0, 10.0, 1.0]))
    assert ratio(theirs, ours, "s") == 4
    assert medians(theirs) == {"s": 4.0}
