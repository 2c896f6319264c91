"""Users and boxes in virtual time."""

import math
from collections import Counter
from dataclasses import replace

import pytest

from app.contract.engine import Capacity
from app.engine.kv.sequence import TokenSequence
from app.engine.scheduling.decision import Decision, SequenceChunk
from bench.arithmetic.runs import committed
from bench.gpu_check.report import load_all
from bench.results import RESULTS
from bench.simulation.balance import BALANCES
from bench.simulation.box import Box
from bench.simulation.cards import Card, cards
from bench.simulation.figures import Figures, figures
from bench.simulation.play import Play, Record, Span
from bench.simulation.scenarios import Scenario, most_users
from bench.simulation.tables import gpus, loads
from bench.simulation.users import CHAT, User

SPAN = Span(warm_up=60.0, counted=60.0)


@pytest.fixture(scope="module")
def pair() -> Card:
    return cards()[0]


@pytest.fixture(scope="module")
def h100() -> Card:
    return cards()[1]


def play(card: Card, users: int, *, boxes: int = 1, balance: str = "a gateway", lost: float | None = None) -> Record:
    those = [Box(f"box {number}", card, seed=1) for number in range(boxes)]
    chosen = BALANCES[balance](1)
    return Play(those, users, chosen, behaviour=CHAT, span=SPAN, seed=1, lost=lost).run()


def measured(name: str) -> float:
    check = next(check for check in load_all(RESULTS / "gpu") if "H100" in check.card)
    return next(float(row.value) for section in check.sections for row in section.rows if row.name == name)


@pytest.mark.parametrize(("rows", "context"), [(1, 2048), (8, 2048), (12, 2048), (45, 512)])
def test_a_decode_step_takes_what_it_took_on_the_card(h100: Card, rows: int, context: int) -> None:
    assert h100.decode(rows, rows * context) == pytest.approx(committed()["H100"].step(rows, context))


def test_prompts_take_what_they_took_and_small_ones_what_the_host_needs(h100: Card) -> None:
    assert 2048 / h100.prefill([(2048, 0)]) == pytest.approx(measured("prefill, chunk 2048 behind 0"))
    assert 2048 / h100.prefill([(2048, 8192)]) == pytest.approx(measured("prefill, chunk 2048 behind 8192"))
    short = TokenSequence("a", [1] * 40, 1)
    step = Decision((), (SequenceChunk(short, 0, 40),))
    assert 512 / h100.seconds(step) == pytest.approx(measured("prefill, chunk 512 behind 0"))


def test_two_cards_take_less_for_a_prompt_than_in_series_and_one_card_does_not(pair: Card, h100: Card) -> None:
    step = Decision((), (SequenceChunk(TokenSequence("a", [1] * 2048, 1), 0, 2048),))
    assert 0.5 * pair.prefill([(2048, 0)]) < pair.seconds(step) < 0.75 * pair.prefill([(2048, 0)])
    assert h100.seconds(step) == h100.prefill([(2048, 0)])


def test_a_card_that_nobody_measured_is_as_much_slower_as_its_data_sheet(pair: Card, h100: Card) -> None:
    assert (pair.measured, h100.measured) == (False, True)
    assert pair.decode(32, 32 * 2048) / h100.decode(32, 32 * 2048) == pytest.approx(3.35 / 0.936, rel=0.1)
    assert pair.prefill([(2048, 0)]) / h100.prefill([(2048, 0)]) == pytest.approx(989 / 71)


def test_decoding_sequences_slow_a_step_with_prompt_tokens(pair: Card) -> None:
    prompt, old = TokenSequence("a", [1] * 512, 1), TokenSequence("b", [1] * 200_001, 1)
    alone = Decision((), (SequenceChunk(prompt, 0, 512),))
    beside = Decision((SequenceChunk(old, 200_000, 1),), alone.prefill)
    assert pair.seconds(beside) > pair.seconds(alone)


def test_a_play_can_be_repeated(pair: Card) -> None:
    assert figures(play(pair, 30)) == figures(play(pair, 30))


def test_users_have_what_is_promised_until_there_are_too_many(pair: Card) -> None:
    few, many = figures(play(pair, 30)), figures(play(pair, 300))
    assert few.kept
    assert not many.kept
    assert few.first_token_95 < many.first_token_95
    assert few.speed > many.speed
    assert few.cached > 0.2, "conversations go on where they were"


def test_who_is_refused_asks_again(pair: Card) -> None:
    small = Box("small", replace(pair, capacity=Capacity(1, 40_000)), seed=1)
    span = Span(warm_up=60.0, counted=250.0)
    record = Play([small], 60, BALANCES["a gateway"](1), behaviour=CHAT, span=span, seed=1).run()
    refused = [question for question in record.questions if question.refusals]
    assert refused
    assert figures(record).refused == pytest.approx(len(refused) / len(record.questions), rel=0.2)
    assert [question for question in refused if question.first_token is not None]


def test_the_answers_of_a_lost_box_come_from_the_others(pair: Card) -> None:
    whole, broken = (play(pair, 120, boxes=3, balance="nginx, least_conn", lost=at) for at in (None, 90.0))
    undisturbed, asked_before = (
        [question for question in record.questions if 80 < question.asked < 90] for record in (whole, broken)
    )
    assert asked_before
    assert [question for question in asked_before if question.first_token is None] == []
    longest = max(question.wait for question in undisturbed)
    assert max(question.wait for question in asked_before) > longest, "some of them asked twice"


def test_a_user_asks_the_same_whatever_others_do() -> None:
    first, second = (User(7, CHAT, seed=3).question() for _ in range(2))
    other = User(8, CHAT, seed=3).question()
    assert first.tokens == second.tokens != other.tokens


def test_a_conversation_stays_at_its_box_where_that_is_the_rule(pair: Card) -> None:
    boxes = [Box(f"box {number}", pair, seed=1) for number in range(4)]
    for balance in ("a gateway", "nginx, by key"):
        chosen = {BALANCES[balance](1)(boxes, "user 3").name for _ in range(8)}
        assert len(chosen) == 1
        spread = Counter(BALANCES[balance](1)(boxes, f"user {number}").name for number in range(400))
        assert min(spread.values()) > 60
        home = BALANCES[balance](1)(boxes, "user 3")
        others = [box for box in boxes if box is not home]
        stay = [BALANCES[balance](1)(rest, "user 3") for rest in (boxes[:], [home, *others[:2]])]
        assert stay == [home, home], "another box that is lost moves nobody"


def test_the_idlest_box_is_asked_where_that_is_the_rule(pair: Card) -> None:
    boxes = [Box(f"box {number}", pair, seed=1) for number in range(2)]
    boxes[0].ask(User(1, CHAT, seed=1).question(), 0.0)
    for balance in ("nginx, least_conn", "Ray Serve"):
        assert {BALANCES[balance](1)(boxes, "any").name for _ in range(8)} == {"box 1"}


def test_scenarios_are_played_as_they_say(pair: Card) -> None:
    scenario = Scenario(pair, CHAT, users=20, span=SPAN)
    assert scenario.play() == figures(play(pair, 20, balance="nginx, by key"))


@pytest.mark.parametrize("carried", [5, 37, 640])
def test_the_most_users_are_found_within_five_of_a_hundred(
    pair: Card, monkeypatch: pytest.MonkeyPatch, carried: int
) -> None:
    asked: list[int] = []

    def played(scenario: Scenario) -> Figures:
        asked.append(scenario.users)
        wait = 1.0 if scenario.users <= carried else 60.0
        return Figures(wait, wait, 30.0, 20.0, 100.0, 0.0, 0.0)

    monkeypatch.setattr(Scenario, "play", played)
    assert carried / 1.06 <= most_users(pair, CHAT) <= carried
    assert len(asked) < 15


def test_gpus_are_those_of_whole_boxes(pair: Card, h100: Card) -> None:
    rows = gpus([pair, h100], [CHAT], {(pair.name, CHAT.name): 95, (h100.name, CHAT.name): 600}).splitlines()
    assert "| two RTX 3090 | chat | 95 | 380 | 3,040 | 2 | 22 | 2,106 |" in rows
    assert "| one H100 | chat | 1,200 | 4,800 | 38,400 | 1 | 2 | 167 |" in rows


def test_a_wait_that_did_not_end_is_no_number(pair: Card) -> None:
    scenario = Scenario(pair, CHAT, users=20)
    row = loads([scenario], {scenario: Figures(2.0, math.inf, 30.0, 20.0, 1234.0, 0.25, 0.5)}).splitlines()[-1]
    assert row == "| two RTX 3090 | 20 | 2.00 s | not in the play | 30 | 20 | 1,234 | 25.0% | 50% |"
