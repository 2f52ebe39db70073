"""The report: its charts, the answer on top, and how it looks in a browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from aldvae.config.execution import Execution
from aldvae.reporting.answer_view import answer_fragment
from aldvae.reporting.charts import Chart, Line, format_number
from aldvae.reporting.evidence import write_evidence
from aldvae.reporting.figures.svg import inline_svg
from aldvae.reporting.html_report import write_report
from aldvae.runs.results import read_result
from aldvae.training.loop import run
from tests.conftest import resolve

ROOT = Path(__file__).parents[1]


def chart(*lines: Line, **more: Any) -> Chart:
    return Chart(title="Loss", x_label="epoch", y_label="nats", lines=lines, **more)


def test_numbers_have_their_places_in_a_chart() -> None:
    line = Line(label="loss", x=[1, 3], y=[10.0, 20.0])
    drawn = chart(line, from_zero=True)
    assert drawn.x_range == (1, 3)
    assert drawn.y_range == pytest.approx((0.0, 20.4))
    assert [drawn.x(1), drawn.x(2), drawn.x(3)] == [drawn.left, (drawn.left + drawn.right) / 2, drawn.right]
    assert (drawn.y(0), drawn.y(20.4)) == (drawn.bottom, drawn.top)
    assert drawn.path(line) == f"M{drawn.left} {drawn.y(10):g}L{drawn.right} {drawn.y(20):g}"
    steps = Line(label="size", x=[1, 3], y=[10.0, 20.0], steps=True)
    assert drawn.path(steps) == f"M{drawn.left} {drawn.y(10):g}H{drawn.right}V{drawn.y(20):g}"


def test_the_pointer_shows_all_values_of_the_nearest_x() -> None:
    lines = Line(label="training", x=[1, 2, 4], y=[3.0, 2.0, 1.0]), Line(label="hidden", x=[4], y=[7.0], hidden=True)
    drawn = chart(*lines)
    hits = list(drawn.hits)
    assert [text for *_, text in hits] == [
        "epoch 1\ntraining: 3",
        "epoch 2\ntraining: 2",
        "epoch 4\ntraining: 1\nhidden: 7",
    ]
    assert hits[0][0] == drawn.left
    for (left, width, place, _), (following, *_) in zip(hits, [*hits[1:], (drawn.right, 0, 0, "")], strict=True):
        assert left + width == pytest.approx(following)
        assert left <= place <= following
    assert drawn.legend == [("training", "c0", False)]
    # What is hidden does not widen the axis.
    assert drawn.y_range[1] < 4


def test_early_values_do_not_flatten_the_rest() -> None:
    line = Line(label="loss", x=[1, 2, 3], y=[900.0, 2.0, 1.0])
    assert chart(line, settled=2).y_range[1] < 3
    assert chart(line).y_range[1] > 900
    assert chart(Line(label="loss", x=[1], y=[5.0]), settled=9).y_range[0] < 5


finite = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=8, unique_by=lambda point: point[0]))
def test_every_point_and_tick_lies_within_the_plot(points: list[tuple[float, float]]) -> None:
    x, y = zip(*sorted(points), strict=True)
    line = Line(label="loss", x=x, y=y)
    drawn = chart(line)
    for left, top in drawn.points(line):
        assert drawn.left <= left <= drawn.right
        assert drawn.top <= top <= drawn.bottom
    assert all(drawn.left <= place <= drawn.right for place, _ in drawn.x_ticks)
    assert all(drawn.top <= place <= drawn.bottom for place, _ in drawn.y_ticks)


def test_numbers_are_short() -> None:
    assert [format_number(v) for v in (100, 0.30000000000000004, 24.2, -13513.2, 1e-4)] == [
        "100",
        "0.3",
        "24.2",
        "-13510",
        "0.0001",
    ]


def test_a_figure_takes_the_colours_of_the_page() -> None:
    figure = Figure()
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="black", label="<line>")
    axis.legend()
    svg = str(inline_svg(figure, "f1"))
    assert svg.startswith("<svg ")
    assert "#000000" not in svg
    assert "#ffffff" not in svg
    assert "<line>" not in svg
    identifiers = re.findall(r'\bid="([^"]*)"', svg)
    assert identifiers
    assert all(name.startswith("f1-") for name in identifiers)
    used = re.findall(r'(?:url\(#|href="#)([^)"]*)', svg)
    assert set(used) <= set(identifiers)
    assert "date" not in svg.lower()


# A run whose curve has the sizes 4, 3 and 2.
RUN: dict[str, Any] = {"limit": 200, "epochs": 10, "init_dim": 12, "min_dim": 4, "hidden_dim": 16, "lr": 0.005}
RUN |= {"fid_samples": 50, "silhouette_samples": 50, "protocol": "recommended"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Execute a run of the recommended protocol, and two of the paper's, one without stop."""
    results_dir = tmp_path_factory.mktemp("results")
    paper = {**RUN, "protocol": "paper", "patience": 2}
    for settings in (RUN, paper, {**paper, "stop": False}):
        run(resolve("adaptive", "digits", **settings), Execution(results_dir=results_dir, threads=1))
    write_report(results_dir, results_dir / "report.html")
    return results_dir


def test_the_answer_comes_first_with_its_curve_and_its_course(results: Path) -> None:
    page = (results / "report.html").read_text()
    first, paper, unstopped = re.findall(r"<section class=\"answer wide\">(.*?)</section>", page, re.DOTALL)
    assert "carry information" in first
    assert "this holds for a Bernoulli likelihood and beta 1." in first
    assert "as good as the best of the curve" in first
    titles = re.findall(r"<figcaption>([^<]*)", first)
    assert [title.strip() for title in titles][:4] == [
        "Loss by latent size",
        "Latent size",
        "Loss",
        "KL divergence of each dimension",
    ]
    assert "weight of the KL divergence: 0.5" in first
    # Loss, reconstruction loss, two Fréchet distances and Silhouette score.
    assert first.count("latent size 3\n") == 5
    assert "The paper&#39;s rule found no size" in paper
    assert "--no-stop" not in paper
    assert "rule paper" in unstopped
    assert page.index("The model:") > page.index("</section>")


def test_a_report_needs_no_other_files(results: Path) -> None:
    page = (results / "report.html").read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#f\d+-)""", page)
    assert not re.findall(r"url\((?!#)", page)


def test_a_run_has_its_report_and_keeps_it(results: Path, tmp_path: Path) -> None:
    path = next(result for result in results.iterdir() if (result / "curve.csv").exists())
    shutil.copytree(path, tmp_path / "run")
    write_evidence(tmp_path / "run")
    for name in ("overview.png", "curve.png", "report.html"):
        assert (tmp_path / "run" / name).stat().st_size > 10_000
    (tmp_path / "run" / "report.html").write_text("mine")
    write_evidence(tmp_path / "run")
    assert (tmp_path / "run" / "report.html").read_text() == "mine"


def test_a_notebook_gets_the_answer_without_a_page_around_it(results: Path) -> None:
    path = next(result for result in results.iterdir() if (result / "curve.csv").exists())
    result = read_result(path)
    assert result is not None
    fragment = answer_fragment(result)
    assert "carry information" in fragment
    assert "<html" not in fragment
    # The style must not change the notebook around it.
    style = re.sub(r"@media[^{]*{", "", re.findall(r"<style>(.*?)</style>", fragment, re.DOTALL)[0])
    selectors = [part.strip() for rule in re.findall(r"([^{}]+){", style) for part in rule.split(",")]
    assert all(selector.startswith(".aldvae") for selector in selectors)


WIDTHS = (390, 1200)
_PROBE = """<body><script>
(async () => {
  const widths = [];
  for (const width of [%s]) {
    const frame = document.createElement("iframe");
    frame.style.width = width + "px";
    frame.src = "%s";
    document.body.append(frame);
    await new Promise((resolve) => frame.onload = resolve);
    const page = frame.contentDocument;
    for (const details of page.querySelectorAll("details")) details.open = true;
    const chart = page.querySelector(".chart"), hit = chart.querySelector(".hit");
    hit.dispatchEvent(new frame.contentWindow.PointerEvent("pointermove", {bubbles: true}));
    widths.push([width, page.documentElement.scrollWidth, chart.querySelector(".tip").textContent].join("|"));
  }
  document.body.textContent = "RESULT " + widths.join(" AND ") + " END";
})();
</script>"""


def test_a_browser_shows_the_report_without_scrolling_sideways_and_values_under_the_pointer(
    results: Path, tmp_path: Path
) -> None:
    browser = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
    if browser is None:
        if os.environ.get("ALDVAE_REQUIRE_DATA"):
            pytest.fail("CI needs Chromium")
        pytest.skip("Chromium is not installed")
    probe = tmp_path / "probe.html"
    probe.write_text(_PROBE % (", ".join(map(str, WIDTHS)), (results / "report.html").as_uri()))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=30000", "--dump-dom", probe.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    (text,) = re.findall(r"RESULT (.*) END", shown, re.DOTALL)
    for width, line in zip(WIDTHS, text.split(" AND "), strict=True):
        told, scrolled, tip = line.split("|")
        assert int(told) == width
        assert int(scrolled) <= width
        assert tip.startswith("latent size 2\ncurve: ")


def test_the_demo_shows_both_protocols_and_ends_with_the_report() -> None:
    makefile = (ROOT / "Makefile").read_text()
    recipe = re.findall(r"^demo: env\n((?:\t.*\n)+)", makefile, re.MULTILINE)[0].splitlines()
    commands = [line.strip().split(" ")[1:] for line in recipe]
    assert [command[0] for command in commands] == ["adaptive", "adaptive", "report"]
    assert ["--protocol" in command for command in commands] == [False, True, False]
    assert {command[-1] for command in commands} == {"$(DEMO)"}
