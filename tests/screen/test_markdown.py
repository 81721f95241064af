"""What a person sees of an answer in Markdown while it streams: rendered, whole, and drawn again only on the screen.

The terminal is one in memory (`small_terminal.py`); `test_rendered_answers.py` of the end-to-end tests uses a real one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from afkcli.screen.markdown.region import Region, does_reflow
from afkcli.screen.markdown.stream import MAX_OPEN_CHARS, MarkdownStream, laid_out
from tests.screen.small_terminal import SmallTerminal
from tests.terminal_scenarios.answers import ANSWER

BLOCKS = [
    ANSWER,
    "para one\ntwo lines **bold\nacross** `co de` and *it*\n",
    "- a\n- b\n\n- c\n  more\n\n  para in item\n",
    "1. x\n2. y\n   ```sh\n   ls -l\n   ```\n3. z\n",
    f"```\nno language {'x' * 100}\n\n\tindented\n```\n",
    "> quote\n> > nested\n> - l\n",
    "| a | 漢字 | b<br>c |\n|:-|-:|:-:|\n| 1 | 二 | \U0001f468\u200d\U0001f469\u200d\U0001f467 x |\n"
    "| long long text | y | z |\n",
    "Setext\n===\n\ntext\n---\n",
    "漢字かな交じり文。" * 20 + "\n",
    "שלום עולם " * 10 + "\n",
    "a" * 300 + " b\n",
    "- " * 30 + "deep\n",
    "***\n",
    "line  \nbreak\\\nx\n",
    '[foo]: http://x.y\n\n[foo] [a](http://b.c "t")\n',
    "![i](http://img)\n",
    "&#27;[31m &lt; <b>\n",
    "word " * 200 + "\n",
    "~~~py\nx = '''\nabc\n'''\n~~~\n",
    "    indented code\n    more\n",
    "~~s~~ **b** _u_ __v__\n",
    "*** a **b\n",
    "```\nnever closed\n",
]
SIZES = [(80, 24), (40, 12), (20, 10), (10, 6), (120, 50)]

sources = st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4).map("\n".join)
without_tables = st.lists(st.sampled_from([text for text in BLOCKS if "|" not in text]), min_size=1, max_size=4)
cuts = st.lists(st.sampled_from([1, 3, 10, 50, 400]), min_size=1, max_size=6)


def streamed(
    source: str,
    pieces: Sequence[int],
    size: tuple[int, int] = (80, 24),
    *,
    styles: bool = True,
    sizes: Sequence[tuple[int, int]] = (),
) -> SmallTerminal:
    """Draw an answer after each of its pieces; with `sizes`, the terminal is resized in between, again and again."""
    region, terminal = Region(MarkdownStream(styles=styles), reflows=True), SmallTerminal(*size)
    at = number = 0
    while at < len(source):
        piece = pieces[number % len(pieces)]
        region.feed(source[at : at + piece])
        at, number = at + piece, number + 1
        if sizes and not number % 4:
            size = sizes[number // 4 % len(sizes)]
            terminal.resize(*size)
        terminal.write(region.draw(*size))
    terminal.write(region.draw(*size, ended=True))
    return terminal


def whole(source: str, columns: int, *, styles: bool = True) -> list[str]:
    """Return the lines of an answer that is there at once."""
    return [line.text for line in laid_out(source, columns, styles=styles)]


def shown(source: str, columns: int = 80, *, styles: bool = True) -> str:
    return "\n".join(whole(source, columns, styles=styles))


def letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text)


class TestStreaming:
    @given(sources, cuts, st.sampled_from([80, 40, 20, 10]), st.booleans())
    def test_on_a_tall_terminal_the_end_is_that_of_an_answer_that_came_at_once(
        self, source: str, pieces: list[int], columns: int, styles: bool
    ) -> None:
        terminal = streamed(source, pieces, (columns, 500), styles=styles)
        assert terminal.copied().rstrip("\n") == shown(source, columns, styles=styles).rstrip("\n")

    @given(sources, cuts, st.sampled_from(SIZES), st.booleans())
    def test_nothing_is_lost_or_doubled_and_nothing_above_the_screen_is_drawn_again(
        self, source: str, pieces: list[int], size: tuple[int, int], styles: bool
    ) -> None:
        terminal = streamed(source, pieces, size, styles=styles)
        assert letters(terminal.copied()) == letters(shown(source, size[0], styles=styles))
        assert not terminal.rewritten_away

    @given(without_tables.map("\n".join), cuts, st.lists(st.sampled_from(SIZES), min_size=1, max_size=4))
    def test_nothing_is_lost_or_doubled_while_the_terminal_is_resized(
        self, source: str, pieces: list[int], sizes: list[tuple[int, int]]
    ) -> None:
        terminal = streamed(source, pieces, sizes=sizes)
        assert letters(terminal.copied()) == letters(shown(source))
        assert not terminal.rewritten_away

    @given(
        st.lists(st.integers(1, 400), min_size=1, max_size=8),
        cuts,
        st.lists(st.sampled_from([(80, 24), (40, 12), (20, 10), (10, 6), (120, 40), (30, 5)]), min_size=1, max_size=4),
    )
    @example([320, 1], [1], [(80, 24), (40, 12)])
    @example([320, 1], [1], [(20, 10), (80, 24)])
    @example([180, 260], [1, 50, 1], [(40, 12), (20, 10), (30, 5), (30, 5)])
    def test_words_longer_than_a_small_screen_are_neither_lost_nor_doubled_while_it_is_resized(
        self, words: list[int], pieces: list[int], sizes: list[tuple[int, int]]
    ) -> None:
        source = " ".join("x" * count for count in words)
        terminal = streamed(source, pieces, sizes=sizes)
        assert len(letters(terminal.copied())) == sum(words)
        assert not terminal.rewritten_away

    @given(st.text(st.sampled_from("a *_`#>|-\n[]()~1.\\<&\t\r\x1b漢\u0301\u200d\u202e😀"), max_size=200), cuts)
    def test_any_text_at_all_is_shown_without_an_error(self, source: str, pieces: list[int]) -> None:
        terminal = streamed(source, pieces, (20, 6))
        assert not terminal.rewritten_away
        assert terminal.copied().count("漢") >= shown(source, 20).count("漢")

    def test_prose_is_only_appended(self) -> None:
        region = Region(MarkdownStream(styles=True), reflows=True)
        written = []
        for word in ("Plants ", "turn ", "light ", "into ", "energy."):
            region.feed(word)
            written.append(region.draw(80, 24))
        assert written == ["Plants", " turn", " light", " into", " energy."]

    def test_half_a_mark_at_the_end_of_a_piece_is_not_shown(self) -> None:
        for source, half in (
            ("some **bo", "some bo"),
            ("some *i", "some i"),
            ("a `co", "a co"),
            ("text\n-", "text"),
            ("text\n``", "text"),
            ("[text](http://exa", "text (http://exa)"),
            ("para\n\n| a | b |\n", "para"),
            ("a **b*", "a b"),
        ):
            assert streamed(source, [100]).text() != ""
            region, terminal = Region(MarkdownStream(styles=True), reflows=True), SmallTerminal(80, 24)
            region.feed(source)
            terminal.write(region.draw(80, 24))
            assert terminal.text() == half, source

    def test_what_others_have_written_below_is_not_touched(self) -> None:
        region, terminal = Region(MarkdownStream(styles=True), reflows=True), SmallTerminal(20, 10)
        region.feed("one **two")
        terminal.write(region.draw(20, 10))
        terminal.write("\nafk: a warning\n")
        region.leave()
        region.feed("** three\n\nfour")
        terminal.write(region.draw(20, 10, ended=True))
        assert terminal.text() == "one two\nafk: a warning\nthree\n\nfour"

    def test_the_rest_of_a_paragraph_that_is_taller_than_the_screen_follows_what_has_scrolled_away(self) -> None:
        words = [f"w{number}" for number in range(400)]
        source = "**begins " + " ".join(words[:200]) + "** " + " ".join(words[200:])
        assert streamed(source, [7], (30, 5)).text().split() == ["begins", *words]

    @pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 4), (200, 1)])
    def test_a_very_small_terminal_loses_no_prose(self, size: tuple[int, int]) -> None:
        source = "Plants **turn** light into\n\nenergy `by` photosynthesis, see [x](http://a.b/cd).\n\n- one\n- two\n"
        assert letters(streamed(source, [1], size).copied()) == letters(shown(source, size[0]))

    def test_a_narrower_terminal_that_does_not_wrap_anew_keeps_its_rows(self) -> None:
        region, terminal = Region(MarkdownStream(styles=True), reflows=False), SmallTerminal(20, 10)
        region.feed("finished\n\none two three four five six")
        terminal.write(region.draw(20, 10))
        terminal.columns = 12
        for row in terminal.rows:
            del row.cells[12:]
        terminal.column = min(terminal.column, 12)
        terminal.write(region.draw(12, 10, ended=True))
        assert terminal.text().rstrip() == "finished\n\none two\nthree four\nfive six"

    @pytest.mark.parametrize(
        ("variables", "expected"),
        [
            ({"TERM": "xterm-256color"}, True),
            ({"TERM": "screen-256color", "TMUX": "x"}, True),
            ({"TERM": "screen"}, False),
            ({"TERM": "xterm", "XTERM_VERSION": "XTerm(379)"}, False),
            ({"TERM": "linux"}, False),
        ],
    )
    def test_which_terminals_wrap_anew_is_known(self, variables: dict[str, str], expected: bool) -> None:
        assert does_reflow(variables) is expected


class TestLayout:
    def test_an_answer_is_laid_out(self) -> None:
        assert (
            shown(ANSWER)
            == """\
Photosynthesis

Plants turn light into chemical energy, see chlorophyll and
the article (https://example.org/photosynthesis).

1. Light is absorbed.
2. Water is split:
   • oxygen leaves
   • protons stay
3. Sugar is made.

│ Without it there would be no food.

def energy(photons: int) -> float:
    return photons * 3.6e-19  # joules, for green light

Step            │ Place     │ Needs
────────────────┼───────────┼─────────────
light reactions │ thylakoid │ light, water
Calvin cycle    │ stroma    │ CO2, ATP

That is all."""
        )

    def test_without_styles_the_marks_stay(self) -> None:
        text = shown(ANSWER, styles=False)
        for mark in (
            "# Photosynthesis",
            "**light**",
            "*chemical*",
            "`chlorophyll`",
            "   - oxygen",
            "> Without",
            "```python",
        ):
            assert mark in text
        assert all(line.rendered() == line.text for line in laid_out(ANSWER, 80, styles=False))

    def test_code_can_be_copied(self) -> None:
        """No box, no indent, no blanks at the ends, and a long line is one line, also in a list."""
        command = f"curl https://example.org/{'x' * 60} | sh"
        terminal = streamed(
            f"1. Run:\n   ```sh\n   {command}\n   if true; then   \n     exit\n   fi\n   ```\n", [5], (30, 20)
        )
        assert f"\n{command}\nif true; then\n  exit\nfi\n" in terminal.copied()

    @given(sources, st.sampled_from([80, 40, 13]), st.booleans())
    def test_no_line_ends_with_a_blank(self, source: str, columns: int, styles: bool) -> None:
        assert not [line for line in whole(source, columns, styles=styles) if line != line.rstrip(" ")]

    @given(st.sampled_from([text for text in BLOCKS if "```" not in text and "aaaa" not in text]), st.integers(16, 90))
    def test_prose_lists_and_tables_fit_into_the_columns(self, source: str, columns: int) -> None:
        assert max(line.cells for line in laid_out(source, columns, styles=True)) <= columns

    def test_a_link_shows_where_it_leads(self) -> None:
        assert shown("[your bank](http://evil.example)") == "your bank (http://evil.example)"
        assert shown("<http://a.b> [http://a.b](http://a.b)") == "http://a.b http://a.b"
        assert shown("[http://good.example](http://evil.example)") == "http://good.example (http://evil.example)"
        assert shown("![chart](data.png)") == "chart (data.png)"

    @pytest.mark.parametrize(
        "hostile",
        [
            "\x1b[2Jx",
            "\x1b]8;;http://evil\x1b\\text\x1b]8;;\x1b\\",
            "a\u202eb",
            "a&#8238;b",
            "`\x9b31m`",
            "```\n\x1b]0;title\x07\n```",
            "| \x1b[1m |\n|-|\n| \x07 |",
            "[a](http://x/\x1b[1m)",
            "# \x1b[5m",
            "```py\x1b[1m\nx\n```",
            "a\rb",
        ],
    )
    @pytest.mark.parametrize("styles", [True, False])
    def test_what_moves_a_terminal_is_made_visible(self, hostile: str, styles: bool) -> None:
        for line in laid_out(hostile, 80, styles=styles):
            assert line.text.isprintable() or not line.text
            assert "\u202e" not in line.text
            assert re.sub(r"\x1b\[[\d;]*m", "", line.rendered()) == line.text

    def test_marks_of_other_languages_are_text(self) -> None:
        assert shown("[bold]x[/bold] <b>y</b> <script>z</script> :smile: {red}") == (
            "[bold]x[/bold] <b>y</b> <script>z</script> :smile: {red}"
        )

    def test_definitions_of_links_are_not_left_out(self) -> None:
        assert "[1]: http://a.b" in shown("see [x][1]\n\n[1]: http://a.b\n")

    def test_a_list_that_is_nested_thirty_deep_shows_each_item(self) -> None:
        source = "".join(f"{'  ' * depth}- item{depth}\n" for depth in range(30))
        for columns in (80, 40, 20):
            assert [line.split()[-1] for line in whole(source, columns)] == [f"item{depth}" for depth in range(30)]

    def test_numbers_of_a_list_continue_where_it_was_cut(self) -> None:
        source = "".join("1. word\n" for _ in range(30))
        assert streamed(source, [3], (40, 8)).text().split("\n") == [f"{n}. word" for n in range(1, 31)]

    def test_a_table_wider_than_the_screen_is_wrapped_in_its_columns_or_becomes_a_list(self) -> None:
        table = "| name | what it does |\n|---|---|\n| alpha | one two three four five |\n"
        assert whole(table, 20) == [
            "name  │ what it does",
            "──────┼─────────────",
            "alpha │ one two",
            "      │ three four",
            "      │ five",
        ]
        wide = "|" + "|".join(f" c{n} " for n in range(9)) + "|\n" + "|---" * 9 + "|\n" + "| v " * 9 + "|\n"
        assert whole(wide, 20) == [f"c{number}: v" for number in range(9)]

    def test_columns_of_wide_characters_and_emoji_are_aligned(self) -> None:
        table = "| a | b |\n|---|---|\n| 漢字 | x |\n| ✔️ | y |\n| 👩‍💻 | z |\n"
        assert whole(table, 40) == ["a    │ b", "─────┼──", "漢字 │ x", "✔️   │ y", "👩‍💻   │ z"]

    def test_east_asian_text_is_wrapped_between_characters_and_not_before_closing_ones(self) -> None:
        assert whole("漢字漢字。漢字", 8) == ["漢字漢", "字。漢字"]

    def test_a_word_longer_than_a_line_is_left_to_the_terminal(self) -> None:
        address = f"https://example.org/{'a' * 50}"
        assert whole(f"see the page {address} now", 30) == ["see the page", address, "now"]


class TestLargeBlocks:
    @pytest.mark.parametrize(
        "source",
        [
            "x" * 200_000,
            "word " * 20_000,
            "**bold " * 5_000,
            "- item\n  continued\n" * 3_000,
            "```python\n" + "x = 1\n" * 20_000,
            "|a|b|\n|-|-|\n" + "|c|d|\n" * 5_000,
        ],
        ids=["one line without blanks", "one line", "open marks", "a list", "code without an end", "a table"],
    )
    def test_nothing_is_lost_and_only_what_is_open_is_parsed_again(
        self, source: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from afkcli.screen.markdown import stream

        parsed = []
        monkeypatch.setattr(
            stream,
            "leaves_of",
            lambda text, _real=stream.leaves_of, **more: (parsed.append(len(text)), _real(text, **more))[1],
        )
        terminal = streamed(source, [1000])
        assert letters(terminal.copied()) == letters(source).replace("python", "", 1)
        assert max(parsed) < MAX_OPEN_CHARS + 2_000
        assert sum(parsed) < 60 * MAX_OPEN_CHARS + 20 * len(source)

    def test_what_follows_a_large_block_is_rendered_again(self) -> None:
        code = "".join(f"x{number} = {number}\n" for number in range(3_000))
        text = streamed(f"```python\n{code}```\n\nNow **bold**.\n", [500]).copied()
        assert "x2999 = 2999\n\nNow bold.\n" in text
        assert code in text
        assert streamed(f"{'word ' * 5_000}\n\nNow **bold**.\n", [500]).copied().endswith("\n\nNow bold.\n")
