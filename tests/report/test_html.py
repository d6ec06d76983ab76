"""The page in a real browser, and what it says without one."""

import json
import re

import browser
import pages
import pytest

from tfslim import errors, manifest, optimize
from tfslim.report import __main__ as command
from tfslim.report import html
from tfslim.report.html import charts

WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """The page of a result with extras of every kind."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    result = pages.valid(pages.recorded(), 1.0, 0.9, 0.93, 0.99, 1.3)
    path.write_text(html.to_html(result, pages.extras()), encoding="utf-8")
    return path


def _first_column(page):
    cells = page.locator("table.sortable").first.locator("tbody th")
    return [text.replace(" ★", "") for text in cells.all_inner_texts()]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True])
def test_page_opens_without_a_fault_or_a_request(page_file, width, dark):
    with browser.opened(page_file, width, dark) as page:
        assert page.faults == []
        outside = [url for url in page.asked if not url.startswith("data:")]
        assert outside == [page_file.as_uri()]
        loaded = page.evaluate(
            "[...document.images].map(i => i.complete && i.naturalWidth > 0)"
        )
        assert len(loaded) == 6 and all(loaded)
        wide, seen = page.evaluate(
            "[document.documentElement.scrollWidth, window.innerWidth]"
        )
        assert wide <= seen  # Nothing but tables and code scrolls sideways.
        colors = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor,"
            " getComputedStyle(document.body).color]"
        )
        back, text = (sum(map(int, re.findall(r"\d+", color))) for color in colors)
        assert back < text if dark else back > text


def test_table_sorts_by_click_and_by_keyboard(page_file):
    with browser.opened(page_file, 1280) as page:
        given = ["original", "float32", "float16", "dynamic_int8", "int8"]
        table = page.locator("table.sortable").first
        assert _first_column(page) == given
        table.get_by_role("button", name="size", exact=True).click()
        by_size = ["dynamic_int8", "int8", "float16", "float32", "original"]
        assert _first_column(page) == by_size
        head = table.locator("th[data-title=size]")
        assert head.get_attribute("aria-sort") == "ascending"
        assert (
            page.get_by_role("status").first.inner_text()
            == "Sorted by size, ascending."
        )
        page.keyboard.press("Enter")
        assert _first_column(page) == by_size[::-1]
        assert head.get_attribute("aria-sort") == "descending"
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Space")
        assert _first_column(page) == sorted(given)
        assert head.get_attribute("aria-sort") == "none"
        table.get_by_role("button", name="latency").click()
        assert _first_column(page)[0] == "float32"
        # Empty cells stay last, whichever way.
        for _ in range(2):
            table.get_by_role("button", name="SQNR").click()
            assert _first_column(page)[-1] == "original"
        assert page.faults == []


def test_hostile_names_are_text_in_the_browser(tmp_path):
    result = pages.recorded()
    result["model"]["name"] = result["data"]["spec"] = pages.EVIL
    for row in result["variants"]:
        row["name"] = pages.EVIL + row["name"]
    result["warnings"] = result["skipped"] = [pages.EVIL]
    result["failed"] = {pages.EVIL: pages.EVIL}
    result["slimming"][0] |= {"step": pages.EVIL, "notes": [pages.EVIL]}
    path = tmp_path / "evil.html"
    text = html.to_html(result, pages.extras(pages.EVIL, boxes=True))
    assert "<img src=x" not in text and "\x1b" not in text and "\u202e" not in text
    path.write_text(text, encoding="utf-8")
    with browser.opened(path, 390) as page:
        assert page.faults == []
        assert page.locator("img[src=x]").count() == 0
        assert page.locator("script").count() == 1
        wide, seen = page.evaluate(
            "[document.documentElement.scrollWidth, window.innerWidth]"
        )
        assert wide <= seen


def test_boxes_lie_where_they_were_found(tmp_path):
    path = tmp_path / "boxes.html"
    path.write_text(html.to_html(pages.recorded(), pages.extras(boxes=True)))
    with browser.opened(path, 1280) as page:
        picture = page.locator(".picture").first
        outer = picture.locator("img").bounding_box()
        inner = picture.locator("rect").bounding_box()
        found = [
            (inner["x"] - outer["x"]) / outer["width"],
            (inner["y"] - outer["y"]) / outer["height"],
            inner["width"] / outer["width"],
        ]
        assert found == pytest.approx([0.1, 0.2, 0.5], abs=0.02)


def test_page_says_the_verdict_and_has_all_parts():
    result = pages.valid(pages.recorded(), 1.0, 0.9, 0.93, 0.99, 1.3)
    text = html.to_html(result, pages.extras())
    assert "Take float16.tflite: 7.5 kB (2.9x smaller than original)" in text
    assert "int8 takes 1.30x the time of original: 1 SOFTMAX" in text
    for part in (
        "Answers, float and INT8",
        "Training",
        "What the layers cost",
        "Batch normalization",
        "The search",
        "misses max_latency",
        "Calibration",
        "Sensitivity",
        "In the programs that will run it",
        "What was skipped, and why",
        "labels.txt",
        "Resolved config",
        "tfslim export --model=mlp --data=digits",
        "prefers-color-scheme: dark",
    ):
        assert part in text, part
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    plain = html.to_html(result)
    assert "Answers, float and INT8" not in plain and "Calibration" not in plain


def test_page_of_an_analysis_in_the_browser(tmp_path):
    path = tmp_path / "analysis.html"
    for name in (pages.EVIL, "conv_1"):
        text = html.analysis_to_html(pages.analysis(name))
        assert "<img src=x" not in text and "\x1b" not in text
        path.write_text(text, encoding="utf-8")
        for width in WIDTHS:
            with browser.opened(path, width) as page:
                assert page.faults == [] and page.locator("img").count() == 0
                wide, seen = page.evaluate(
                    "[document.documentElement.scrollWidth, window.innerWidth]"
                )
                assert wide <= seen
                page.get_by_role("button", name="time").click()
                page.keyboard.press("Enter")
                assert _first_column(page) == ["1", "0", "2"]


def test_costs_are_counted_or_timed():
    one = charts.layers([{"name": "a", "unit": "MACs", "before": 2_000_000}])
    assert one["kind"] == "bars" and one["bars"][0]["text"] == "2.00 M"
    both = charts.layers(
        [{"name": "a", "unit": "MACs", "before": 2_000_000, "after": 500_000}]
    )
    assert both["bars"][0]["text"] == "2.00 M → 500.00 k"
    assert both["bars"][0]["before"] == 4 * both["bars"][0]["after"]
    timed = charts.layers([{"name": "a", "before": 2000.0, "after": 500.0}])
    assert timed["bars"][0]["text"] == "2.00 ms → 500.0 us"


def test_thresholds_beyond_the_values_are_drawn():
    entry = {"name": "a", "edges": [0, 1, 2], "counts": [5, 3]}
    chart = charts.histogram({**entry, "thresholds": {"minmax": [-2.0, 6.0]}})
    assert [cut["x"] for cut in chart["cuts"]] == [0.0, 320.0]
    assert [bar["x"] for bar in chart["bars"]] == [80.0, 120.0]


def test_points_of_a_search_lie_by_metric_and_time():
    chart = charts.front(pages.front())
    base, *trials = chart["points"]
    assert (base["x"], base["y"]) == (312.0, 15.0)  # The slowest and the best.
    xs = [point["x"] for point in trials[:6]]
    assert xs == sorted(xs, reverse=True) and xs[-1] == 44.0
    assert xs[3] < chart["limit"] < xs[1]


def test_columns_of_which_nothing_is_known_are_left_out():
    result = pages.recorded()
    for row in (result["original"], *result["variants"]):
        row |= {"benchmark": None, "comparison": None}
    text = html.to_html(result)
    assert 'data-title="size"' in text and 'data-title="latency"' not in text
    rows = re.findall(r"<tr[^>]*><th scope=.row. data-value.*?</tr>", text, re.S)
    assert {row.count("<td") for row in rows} == {text.count("data-title=") - 1}


def test_page_stays_below_three_megabytes():
    extras = pages.extras()
    large = "data:image/png;base64," + "A" * 700_000
    extras["samples"] = [{**one, "image": large} for one in extras["samples"]]
    text = html.to_html(pages.recorded(), extras)
    assert len(text.encode()) < 3_000_000 and text.count(large) == 4


def test_an_image_from_elsewhere_is_refused():
    extras = pages.extras()
    extras["samples"][0]["image"] = "https://example.com/a.png"
    with pytest.raises(errors.ConfigError, match="expected a data URI"):
        html.to_html(pages.recorded(), extras)


def _folder(path, result, **extras):
    path.mkdir()
    (path / "result.json").write_text(json.dumps(result))
    if extras:
        (path / "report_extras.json").write_text(json.dumps(extras))
    return path


def test_command_rebuilds_a_folder(tmp_path, capsys):
    folder = _folder(tmp_path / "a b", pages.recorded(), command="tfslim export")
    (folder / "labels.txt").write_text("zero\none\n")
    manifest.write(folder, ["result.json"])
    assert command.main(["report", str(folder)]) == 0
    text = (folder / "report.html").read_text()
    assert "zero\none" in text and "tfslim export" in text
    assert (folder / "report.md").read_text().startswith("# mlp")
    manifest.verify(folder)
    assert set(manifest.read(folder)) == {"result.json", "report.html", "report.md"}
    assert "Take dynamic_int8.tflite" in capsys.readouterr().out


@pytest.mark.parametrize("names", [("best",), ("family_1", "family_2")])
def test_a_search_has_the_page_of_what_it_made(tmp_path, names):
    found = pages.front("best")
    found["final"] = [{**found["final"][0], "folder": name} for name in names]
    for name in names:
        _folder(tmp_path / name, pages.recorded())
    optimize.write_page(found, tmp_path)
    with browser.opened(tmp_path / "report.html", 390) as page:
        assert page.faults == []
        assert page.locator("circle.b").count() == len(names)  # Trained fully.
        assert page.locator("[aria-label='What the search tried']").count() == 1


def test_command_compares_runs(tmp_path):
    one = _folder(tmp_path / "one", pages.recorded())
    two = _folder(tmp_path / "two", pages.valid(pages.recorded(), 1, 0.5, 1, 1, 1))
    out = tmp_path / "both.html"
    assert command.main(["report", str(one), str(two), f"--out={out}"]) == 0
    assert f"float32 of {two} against dynamic_int8 of {one}: 2.21x" in out.read_text()
    assert "0.0 points (95% interval" in out.read_text()
    with browser.opened(out, 390) as page:
        assert page.faults == [] and len(_first_column(page)) == 10
        page.get_by_role("button", name="size", exact=True).click()
        assert _first_column(page)[:2] == ["dynamic_int8"] * 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is no JSON"),
        ("[]", "holds no result"),
        ('{"schema_version": 7}', "is of schema 7; this tfslim reads schema 1"),
    ],
)
def test_command_refuses_other_folders_in_one_line(tmp_path, capsys, content, message):
    if content is not None:
        (tmp_path / "result.json").write_text(content)
    assert command.main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
