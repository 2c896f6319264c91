"""Known pages: found by their tokens alone, counted, and evicted leaves first."""

from app.engine.kv.pages import KnownPage, PagePool

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
