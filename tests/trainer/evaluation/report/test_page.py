"""The page, opened in a browser: in light and dark mode, at the width of a phone and of a desktop."""

import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from tests.support.browser import browser
from tests.support.evaluations import make_evaluation
from trainer.evaluation.report.collect import content_of
from trainer.evaluation.report.content import ModelRecord
from trainer.evaluation.report.page import to_html
from trainer.evaluation.report.sections import sections_of
from trainer.evaluation.report.summary import summary_of

pytestmark = pytest.mark.heavy

HOSTILE = "<script>document.title = 'x'</script><img src=http://x.test/y onerror=alert(1)>\"'&|`\n"
# For each element with its own text, the colours of text and background as the browser computes and draws them.
TEXTS = """
() => {
  const context = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = color => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest("title, style")) continue;
    const style = getComputedStyle(element);
    let background = element;
    while (background && rgba(getComputedStyle(background).backgroundColor)[3] === 0) background = background.parentElement;
    texts.push({
      text: walker.currentNode.data.trim(),
      ink: rgba(element.closest("svg") ? style.fill : style.color),
      page: rgba(getComputedStyle(background).backgroundColor),
    });
  }
  return texts;
}
"""


@pytest.fixture(scope="module")
def chromium():
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return content_of(make_evaluation(tmp_path_factory.mktemp("page")))


def html_of(content) -> str:
    return to_html(content.title, summary_of(content), sections_of(content))


class Opened:
    """A page in a new browser window, with its console messages and errors and its requests."""

    def __init__(self, chromium, html: str, path, scheme: str = "light", width: int = 1280):
        path.write_text(html, encoding="utf-8")
        self.context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.route("**/*", self._answer)
        self.page.goto(path.as_uri())

    def _answer(self, route):
        if route.request.url.startswith("file://") and route.request.is_navigation_request():
            route.continue_()
        else:
            self.requests.append(route.request.url)
            route.abort()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()


def luminance(rgb) -> float:
    """WCAG 2.2's relative luminance."""
    channels = np.array(rgb[:3]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def paper_of(page) -> np.ndarray:
    """The colour of the page, as drawn: float32 [3] from 0 to 1."""
    return imread(io.BytesIO(page.screenshot(clip={"x": 0, "y": 0, "width": 2, "height": 2})))[0, 0, :3]


def contrast(first, second) -> float:
    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable(chromium, content, tmp_path, scheme, width):
    with Opened(chromium, html_of(content), tmp_path / "report.html", scheme, width) as opened:
        page = opened.page
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("document.body.scrollWidth") <= width
        texts = page.evaluate(TEXTS)
        # For all text, including that of charts and heat maps, WCAG AA requires 4.5.
        assert len(texts) > 300
        assert not [text for text in texts if contrast(text["ink"], text["page"]) < 4.5]
        backgrounds = {tuple(text["page"]) for text in texts}
        assert len(backgrounds) > 5
        assert (luminance(texts[0]["page"]) > 0.5) is (scheme == "light")
        # Lines of charts are graphical objects, for which it requires 3.
        strokes = page.evaluate(
            "[...document.querySelectorAll('svg path')].map(p => getComputedStyle(p).stroke)"
            ".filter(s => s.startsWith('rgb')).map(s => s.match(/\\d+/g).map(Number))"
        )
        rule = page.evaluate("getComputedStyle(document.querySelector('tbody tr + tr > *')).borderTopColor")
        lines = {tuple(stroke) for stroke in strokes} - {tuple(int(part) for part in rule[4:-1].split(","))}
        assert len(lines) >= 4 and all(contrast(line, texts[0]["page"]) >= 3 for line in lines)
        pixels = imread(io.BytesIO(page.screenshot()))[..., :3].mean(axis=-1)
        assert pixels.std() > 0.04 and len(np.unique(pixels)) > 20
        assert not opened.complaints and not opened.requests


def test_its_tables_and_charts_hold_what_is_known(chromium, content, tmp_path):
    with Opened(chromium, html_of(content), tmp_path / "report.html") as opened:
        page = opened.page
        captions = page.locator("caption").all_inner_texts()
        assert len(captions) == len(set(captions)) == page.locator("table").count()
        table = page.locator("table", has=page.locator("caption", has_text="Results by task and language"))
        assert table.locator("thead th").all_inner_texts() == ["language", *(model.name for model in content.models)]
        shown = {cell for cell in table.locator("td").all_inner_texts() if cell != "–"}
        for result in content.results:
            if result.trained_on in (None, result.language):
                assert any(f"{result.value:.3f}\n{result.low:.3f} to {result.high:.3f}" in cell for cell in shown)
        assert table.locator(".best").count() == sum(
            r.is_best for r in content.results if r.trained_on in (None, r.language)
        )
        assert page.locator("td.heat").count() == sum(
            value is not None for m in content.transfer + content.overlap for row in m.values for value in row
        )
        assert page.locator("figure svg").count() == 3 + 4
        # The names of models stand above each group of rows.
        names = table.locator("tr.names").first.locator("td").all_inner_texts()
        assert names == [model.name for model in content.models]
        assert table.locator("tr.names").count() == table.locator("th.group").count() - 1
        assert page.locator("header ul li").count() == 4
        assert page.locator("#curves svg").first.locator("text", has_text="mlm-only").count() == 1
        # Every entry of the contents has a target, and no id occurs twice.
        targets = page.locator("nav a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
        assert len(targets) == 11 and all(page.locator(target).count() == 1 for target in targets)
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
        assert len(ids) == len(set(ids))
        # Numbers are aligned.
        number = table.locator("td").first
        assert number.evaluate("cell => getComputedStyle(cell).textAlign") == "right"
        assert "tabular-nums" in number.evaluate("cell => getComputedStyle(cell).fontVariantNumeric")


def test_a_shade_tells_that_a_table_scrolls(chromium, content, tmp_path):
    with Opened(chromium, html_of(content), tmp_path / "report.html", width=360) as opened:
        scroll = opened.page.locator("#results .scroll")
        paper = paper_of(opened.page)

        def edge() -> float:
            """How far the right edge of the caption's line is from the colour of the page."""
            pixels = imread(io.BytesIO(scroll.screenshot()))[..., :3]
            return float(np.abs(pixels[4:12, -3:] - paper).max())

        assert scroll.evaluate("element => element.scrollWidth > element.clientWidth")
        assert edge() > 0.1
        scroll.evaluate("element => element.scrollLeft = element.scrollWidth")
        assert edge() < 0.02
    with Opened(chromium, html_of(content), tmp_path / "report.html") as opened:
        # A table that does not scroll has no shade.
        scroll, paper = opened.page.locator("#cost .scroll"), paper_of(opened.page)
        assert scroll.evaluate("element => element.scrollWidth == element.clientWidth") and edge() < 0.02


def test_verdicts_are_visible_on_a_phone(chromium, content, tmp_path):
    with Opened(chromium, html_of(content), tmp_path / "report.html", width=360) as opened:
        tables = opened.page.locator("#teachers .scroll").all()[1:]
        assert all(table.evaluate("element => element.scrollWidth == element.clientWidth") for table in tables)


def test_names_are_only_text(chromium, content, tmp_path):
    model = ModelRecord(HOSTILE, HOSTILE, HOSTILE, 100, HOSTILE, [HOSTILE], [HOSTILE], {HOSTILE: HOSTILE})
    hostile = replace(
        content,
        title=HOSTILE,
        languages=[HOSTILE],
        models=[model],
        tasks=[replace(task, title=HOSTILE) for task in content.tasks],
        results=[replace(result, language=HOSTILE, model=HOSTILE, trained_on=None) for result in content.results[:1]],
        figures=[replace(content.figures[0], key=HOSTILE, model=HOSTILE, language=HOSTILE)],
        comparisons=[replace(c, student=HOSTILE, teacher=HOSTILE, language=HOSTILE) for c in content.comparisons[:1]],
        curves=[replace(content.curves[0], model=HOSTILE, language=HOSTILE)],
        reaches=[replace(content.reaches[0], model=HOSTILE, language=HOSTILE, reached={})],
        overlap=[replace(content.overlap[0], title=HOSTILE, rows=[HOSTILE] * 4, columns=[HOSTILE] * 4)],
        calibration=[replace(content.calibration[0], model=HOSTILE, language=HOSTILE)],
        costs=[replace(content.costs[0], model=HOSTILE)],
    )
    with Opened(chromium, html_of(hostile), tmp_path / "report.html", width=360) as opened:
        page = opened.page
        assert page.title() == f"Evaluation: {HOSTILE.strip()}"
        assert page.locator("script, img").count() == 0
        assert page.locator("svg text", has_text="onerror").count() == 2
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert not opened.complaints and not opened.requests


def test_the_checks_themselves(chromium, content, tmp_path):
    """They detect the faults that they look for."""
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((118, 118, 118), (255, 255, 255)) == pytest.approx(4.54, abs=0.01)
    broken = html_of(content).replace("--quiet: #565c64", "--quiet: #aaaaaa").replace("default-src 'none'; ", "")
    broken = broken.replace("</main>", "<img src='http://x.test/y'><div style='width: 2000px'>wide</div></main>")
    with Opened(chromium, broken, tmp_path / "report.html") as opened:
        assert any(contrast(text["ink"], text["page"]) < 4.5 for text in opened.page.evaluate(TEXTS))
        assert opened.page.evaluate("document.documentElement.scrollWidth") > 1280
        assert opened.requests == ["http://x.test/y"] and opened.complaints
