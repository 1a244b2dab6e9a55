import io
import re
import types

from experiments.runs.progress import ProgressDisplay, counted, format_duration, format_rate, short_metrics


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def progress(done: int, total: int = 100, phase: str = "training", **metrics: float) -> types.SimpleNamespace:
    return types.SimpleNamespace(phase=phase, done=done, total=total, metrics=metrics)


def printed(times_and_events, close_at: float = 1000.0) -> list[str]:
    stream, now = io.StringIO(), [0.0]
    with ProgressDisplay(stream, now=lambda: now[0]) as display:
        for now[0], event in times_and_events:
            display.update(event)
        now[0] = close_at
    return stream.getvalue().splitlines()


def test_away_from_a_terminal_a_plain_line_comes_at_most_every_fifteen_seconds():
    lines = printed((float(second), progress(second)) for second in range(41))
    assert [line.split()[1] for line in lines] == ["0/100", "15/100", "30/100", "40/100"]
    assert lines[1] == "training 15/100 (15%), 1.0/s, 1 min 25 s left"


def test_the_state_on_closing_is_printed_once():
    assert printed([(0.0, progress(0)), (1.0, progress(100, loss=0.5))])[1:] == [
        "training 100/100 (100%), 100.0/s, 0 s left, loss 0.5"
    ]
    assert len(printed([(0.0, progress(0))])) == 1


def test_a_phase_that_comes_again_has_a_clock_of_its_own():
    events = [(0.0, progress(0)), (50.0, progress(100)), (500.0, progress(1)), (520.0, progress(41))]
    assert printed(events)[-1] == "training 41/100 (41%), 2.0/s, 30 s left"


def test_a_resumed_phase_counts_only_what_it_did_here():
    assert printed([(0.0, progress(80)), (20.0, progress(90))])[-1] == "training 90/100 (90%), 2.0 s each, 20 s left"


def test_on_a_terminal_every_phase_has_a_bar_and_all_are_closed():
    stream = Terminal()
    with ProgressDisplay(stream) as display:
        for done in range(5):
            display.update(progress(done, 10, "outer"))
            for inner in range(1, 4):
                display.update(progress(inner, 3, "inner", **{"tokenizer/loss": 0.125}))
        display.message("one line")
    text = stream.getvalue()
    assert "outer" in text and "inner: 100%" in text and "loss=0.125" in text and "one line\n" in text
    assert not display._bars


def test_while_a_nested_phase_works_the_outer_bars_time_left_goes_on(monkeypatch):
    """Found by use, 22: 'time left' stood still during the first trainings."""
    stream, clock = Terminal(), [0.0]
    with ProgressDisplay(stream, now=lambda: clock[0]) as display:
        display.update(progress(0, 100, "outer"))
        bar = display._bars["outer"]
        monkeypatch.setattr(bar, "_time", lambda: clock[0])
        bar.start_t = bar.last_print_t = 0.0
        clock[0] = 10.0
        display.update(progress(10, 100, "outer"))
        for second in range(11, 31):
            clock[0] = float(second)
            display.update(progress(second, 100, "inner"))
    outer = [part for part in re.split(r"[\r\n]", stream.getvalue()) if "outer:  10%" in part]
    left = [part.split("<")[1].split(",")[0] for part in outer]
    assert left[0] == "01:30" and left[-1] == "04:30" and len(set(left)) > 10


def test_metrics_are_short_where_that_is_unmistakable():
    assert short_metrics({"a/loss": 0.12345, "b/return": 2.0}) == {"loss": "0.123", "return": "2"}
    assert list(short_metrics({"a/loss": 1, "b/loss": 2})) == ["a/loss", "b/loss"]
    assert len(short_metrics({str(i): i for i in range(9)})) == 4


def test_rates_and_times_read_like_words():
    assert [format_rate(rate) for rate in (12.34, 0.25)] == ["12.3/s", "4.0 s each"]
    assert [format_duration(s) for s in (59.2, 185, 7620)] == ["59 s", "3 min 05 s", "2 h 07 min"]


def test_one_of_a_kind_is_singular():
    """Found by use, 19: '1 episodes'."""
    said = [counted(count, "video") for count in (0, 1, 2, 1.0)]
    assert said == ["0 videos", "1 video", "2 videos", "1 video"]
