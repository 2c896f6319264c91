"""Known pages: found by their tokens alone, whole or by how they begin, counted, and evicted leaves first."""

from hypothesis import given
from hypothesis import strategies as st

from app.engine.kv.known_pages import KnownPage, Siblings, common
from app.engine.kv.pages import PagePool

SIZE = 4


def learn(pool: PagePool, tokens: tuple[int, ...], after: KnownPage | None = None, tenant: str = "a") -> KnownPage:
    page = pool.take()
    assert page is not None
    return pool.learn(page, tokens, tenant, after)


def find(
    pool: PagePool, tokens: tuple[int, ...], after: KnownPage | None = None, tenant: str = "a"
) -> KnownPage | None:
    return pool.find(tokens, tenant, after, 0)


def test_a_page_is_found_by_its_tokens_and_what_lies_before_them() -> None:
    pool = PagePool(8, SIZE)
    first = learn(pool, (1, 2, 3, 4))
    second = learn(pool, (5, 6, 7, 8), first)
    assert find(pool, (1, 2, 3, 4)) is first
    assert find(pool, (5, 6, 7, 8), first) is second
    assert find(pool, (5, 6, 7, 8)) is None, "the same tokens elsewhere are another page"
    assert find(pool, (1, 2, 3, 4), tenant="b") is None


class Collides(int):
    """A token whose hash says nothing."""

    def __hash__(self) -> int:
        return 7


def test_equal_hashes_show_nobody_anothers_text() -> None:
    pool = PagePool(8, SIZE)
    known = learn(pool, tuple(Collides(n) for n in (1, 2, 3, 4)))
    assert find(pool, tuple(Collides(n) for n in (5, 6, 7, 8))) is None
    assert find(pool, tuple(Collides(n) for n in (1, 2, 3, 4))) is known


def test_the_page_with_most_in_common_is_found_by_how_it_begins() -> None:
    pool = PagePool(8, SIZE)
    root = learn(pool, (9, 9, 9, 9))
    pages = {tokens: learn(pool, tokens, root) for tokens in ((1, 2, 3, 4), (1, 2, 5, 6), (1, 2, 5), (7, 1, 1, 1))}
    for tokens, expected in (
        ((1, 2, 3, 9), ((1, 2, 3, 4), 3)),
        ((1, 2, 5, 9), ((1, 2, 5, 6), 3)),
        ((1, 2), ((1, 2, 3, 4), 2)),
        ((7, 9, 9, 9), ((7, 1, 1, 1), 1)),
    ):
        found = pool.find_beginning(tokens, "a", root)
        assert found is not None
        assert (found[0].tokens, found[1]) == expected, tokens
    assert pool.find_beginning((8, 1, 2, 3), "a", root) is None
    assert pool.find_beginning((1, 2, 3, 9), "a", None) is None, "the same tokens elsewhere"
    assert pool.find_beginning((9, 9, 1, 1), "b", None) is None, "another tenant's"
    for known in pages.values():
        pool.let_go(known)
    pool.forget_cached()
    assert pool.find_beginning((1, 2, 3, 9), "a", root) is None, "they were evicted"


@given(
    st.sets(st.lists(st.integers(0, 3), min_size=1, max_size=6).map(tuple)), st.lists(st.integers(0, 3)).map(tuple)
)
def test_no_page_has_more_in_common_than_the_one_that_is_found(
    known: set[tuple[int, ...]], tokens: tuple[int, ...]
) -> None:
    siblings = Siblings()
    for number, each in enumerate(known):
        siblings.add(KnownPage(number, each, None, siblings))
    most = max((common(each, tokens) for each in known), default=0)
    found = siblings.closest(tokens)
    assert (found[1] if found else 0) == most


def test_the_same_text_computed_twice_lies_in_memory_once() -> None:
    pool = PagePool(8, SIZE)
    first, again = learn(pool, (1, 2, 3, 4)), learn(pool, (1, 2, 3, 4))
    assert again is first
    assert (first.holders, pool.shared, pool.in_use, pool.free) == (2, 1, 1, 7)


def test_leaves_go_before_what_they_continue_and_the_least_recently_used_first() -> None:
    pool = PagePool(4, SIZE)
    root = learn(pool, (1, 1, 1, 1))
    old, new = learn(pool, (2, 2, 2, 2), root), learn(pool, (3, 3, 3, 3), root)
    for known in (old, new, root):
        pool.let_go(known)
    assert (pool.cached, pool.available) == (3, 4)
    taken = [pool.take() for _ in range(4)]
    assert taken[1:] == [old.page, new.page, root.page]
    assert pool.take() is None
    assert pool.evicted == 3


def test_a_page_in_use_is_never_evicted() -> None:
    pool = PagePool(3, SIZE)
    root = learn(pool, (1, 1, 1, 1))
    leaf = learn(pool, (2, 2, 2, 2), root)
    pool.let_go(leaf)
    assert [pool.take(), pool.take(), pool.take()][2] is None
    assert find(pool, (1, 1, 1, 1)) is root


def test_a_forgotten_page_is_found_by_nobody_and_freed_by_its_last_holder() -> None:
    pool = PagePool(4, SIZE)
    root = learn(pool, (1, 1, 1, 1))
    pool.hold(root)
    leaf = learn(pool, (2, 2, 2, 2), root)
    pool.let_go(leaf)
    pool.forget(root)
    assert find(pool, (1, 1, 1, 1)) is None
    assert pool.free == 3, "the leaf had no holder"
    pool.let_go(root)
    pool.let_go(root)
    assert (pool.free, pool.cached, pool.shared) == (4, 0, 0)


def test_the_list_of_what_may_be_evicted_does_not_grow_with_use() -> None:
    pool = PagePool(4, SIZE)
    root = learn(pool, (1, 1, 1, 1))
    for _ in range(1000):
        pool.let_go(root)
        pool.hold(root)
    assert len(pool._evictable) < 200


def test_the_first_page_of_a_long_conversation_is_forgotten_with_all_that_follow() -> None:
    """As many pages as DeepSeek's longest context has: no call may go as deep."""
    pool = PagePool(6000, SIZE)
    root = last = learn(pool, (0, 0, 0, 0))
    for number in range(1, 5120):
        last = learn(pool, (number,) * SIZE, last)
        pool.let_go(last)
    pool.let_go(root)
    pool.forget(root)
    assert (pool.free, pool.cached) == (6000, 0)


def test_a_page_that_continues_a_forgotten_one_is_found_by_nobody_and_freed_once() -> None:
    pool = PagePool(6, SIZE)
    root = learn(pool, (1, 1, 1, 1))
    pool.hold(root)
    pool.forget(root)
    pool.let_go(root)
    leaf = learn(pool, (2, 2, 2, 2), root)
    assert find(pool, (2, 2, 2, 2), root) is None
    pool.let_go(leaf)
    pool.let_go(root)
    pool.forget_cached()
    assert (pool.free, pool.cached) == (6, 0)


def test_texts_that_begin_alike_are_forgotten_and_others_are_not() -> None:
    """One may have begun as a copy of the other."""
    pool = PagePool(8, 8)
    texts = {name: learn(pool, (*head, *range(len(head), 8))) for name, head in (("x", (9, 9)), ("y", (9, 8)))}
    learn(pool, tuple(range(8)), texts["x"])
    others = learn(pool, (*(9, 9), *range(20, 26)), tenant="b")
    pool.forget_alike((9, 9, 1, 2, 3, 4, 5, 6), "a")
    assert pool.find_beginning(texts["x"].tokens, "a", None) is None
    assert find(pool, tuple(range(8)), texts["x"]) is None
    assert pool.find(texts["y"].tokens, "a", None, 0) is texts["y"]
    assert pool.find(others.tokens, "b", None, 0) is others


def test_free_pages_that_were_taken_are_told_once() -> None:
    pool = PagePool(6, SIZE)
    kept, *pages = (pool.take() for _ in range(4))
    for page in pages:
        assert page is not None
        pool.give_back(page)
    assert set(pool.newly_free()) == set(pages)
    assert pool.newly_free() == []
    again = pool.take()
    assert again is not None
    assert again != kept
    pool.give_back(again)
    assert pool.newly_free() == [again]


@given(st.lists(st.sampled_from(["take", "give back", "tell"])))
def test_a_free_page_takes_memory_where_it_was_taken_since_it_was_last_told(acts: list[str]) -> None:
    pool = PagePool(5, SIZE)
    held: list[int] = []
    written: set[int] = set()
    for act in acts:
        if act == "take" and pool.free:
            page = pool.take()
            assert page is not None
            held.append(page)
            written.add(page)
        elif act == "give back" and held:
            pool.give_back(held.pop(0))
        elif act == "tell":
            told = pool.newly_free()
            assert sorted(told) == sorted(written - set(held))
            written -= set(told)
