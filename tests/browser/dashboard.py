#!/usr/bin/env python3
"""Drives the dashboard of a host in a headless Chromium, as an operator would: tests/integration/dashboard.rs starts it.

    dashboard.py PAGE TOKEN FOLDER

PAGE is the dashboard's address, TOKEN the host's, FOLDER takes the screenshots. The host sells "concert" to a crowd, has
"matinee" as well, and knows what is asked of it by the lines that this prints: each is a step that is done, or that the test has
to do ("please: ..."). Anything that is not as it should be ends this with an error.
"""

import re
import sys
import time

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect, sync_playwright

PATIENCE_MS = 60_000
CHROMIUM = "/usr/bin/chromium"
# As long as the screenshots are to show some history; otherwise a few events do.
SECONDS_SHOWN = float(sys.argv[4]) if len(sys.argv) > 4 else 0.0


def say(line: str) -> None:
    print(line, flush=True)


class Console:
    """What pages say in their consoles, and ask of anybody but the host."""

    def __init__(self, page_url: str) -> None:
        self.page_url = page_url
        self.said: list[str] = []

    def watch(self, page: Page) -> None:
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        page.on("request", self.note_request)

    def note_request(self, request) -> None:
        if not request.url.startswith((self.page_url, "data:")):
            self.said.append(f"request: {request.url}")

    def expect_empty(self, but: str | None = None) -> None:
        left = [line for line in self.said if but is None or not re.search(but, line)]
        assert not left, f"the console says: {left}"
        self.said.clear()


def number(page: Page, name: str) -> int:
    """The number that an element shows, 0 while there is none."""
    text = page.locator(name).inner_text().replace(",", "")
    return int(float(text)) if re.fullmatch(r"[0-9.]+", text) else 0


def wait_until(what: str, holds) -> None:
    until = time.monotonic() + PATIENCE_MS / 1000
    while not holds():
        assert time.monotonic() < until, f"not so in time: {what}"
        time.sleep(0.05)


def expect_accessible(page: Page, where: str) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, f"{where}:\n{found.generate_report()}"


def colors_drawn(page: Page, chart: str) -> int:
    """How many colours a chart's canvas has."""
    return page.evaluate(
        """(chart) => {
            const canvas = document.querySelector(`${chart} canvas`);
            // Looked at in a copy: the page's own is not made for being read.
            const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
            copy.drawImage(canvas, 0, 0);
            const pixels = copy.getImageData(0, 0, canvas.width, canvas.height).data;
            return new Set(new Uint32Array(pixels.buffer)).size;
        }""",
        chart,
    )


def expect_live(page: Page) -> None:
    expect(page.locator("#link")).to_have_attribute("data-state", "live")


def expect_numbers_to_move(page: Page) -> None:
    sold = number(page, "#count-sold")
    wait_until("tickets are sold", lambda: number(page, "#count-sold") > sold)
    wait_until("bookings a second", lambda: number(page, "#bookings-rate") > 0)
    wait_until("refusals a second", lambda: number(page, "#refusals-rate") > 0)
    for chart in ["#chart-stock", "#chart-requests", "#chart-wait", "#chart-trip", "#chart-batch"]:
        wait_until(f"{chart} is drawn", lambda chart=chart: colors_drawn(page, chart) > 3)
        label = page.locator(f"{chart} [role=img]").get_attribute("aria-label")
        assert re.search(r"\d", label), f"{chart} has no words: {label}"


def tab_to(page: Page, selector: str) -> None:
    """By the keyboard alone."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"no Tab leads to {selector}")


def type_token(page: Page, token: str) -> None:
    expect(page.locator("#token-dialog")).to_be_visible()
    page.keyboard.type(token)
    page.keyboard.press("Enter")
    # The first button of a form is what Enter presses: it must be the one that keeps.
    expect(page.locator("#token-dialog")).to_be_hidden()


def operate(page: Page, console: Console, token: str) -> None:
    status = page.locator("#sale-status")
    # A wrong token is told, and not kept.
    tab_to(page, "#controls [data-do=pause]")
    page.keyboard.press("Enter")
    type_token(page, "wrong")
    expect(page.locator("#told")).to_contain_text("does not take this token")
    console.expect_empty(but="401")
    # By the keyboard; where the focus was there is a button that does nothing now.
    page.keyboard.press("Enter")
    type_token(page, token)
    expect(status).to_have_text("paused")
    assert page.evaluate("document.activeElement.dataset.do") == "resume", "the keyboard lost its place"
    say("paused")
    page.reload()
    expect_live(page)
    expect(status).to_have_text("paused")
    # The token has stayed in the tab, so that nobody asks for it.
    page.locator("[data-do=resume]").click()
    expect(status).to_have_text("open")
    say("resumed")

    # While it is sold from. What is wrong with another sale is said, each by its name.
    page.locator("[data-do=audit]").click()
    expect(page.locator("#audit-verdict")).to_have_text("no difference")
    expect(page.locator("#audit-lines")).to_contain_text("log")
    expect_accessible(page, "an audit")
    page.locator("#audit-end").click()
    expect(page.locator("#audit")).to_be_hidden()
    page.locator("#sales").get_by_text("late-show").click()
    say("please: falsify late-show")

    def finds_it() -> bool:
        page.locator("[data-do=audit]").click()
        expect(page.locator("#audit-verdict")).to_contain_text("difference")
        return page.locator("#audit-verdict").get_attribute("data-found") == "something"

    wait_until("an audit finds it", finds_it)
    expect(page.locator("#audit-lines")).to_contain_text("held: ")
    say("please: mend late-show")
    page.locator("#sales").get_by_text("concert").click()
    expect(page.locator("#sale-title")).to_have_text("concert")
    say("audited")

    total = number(page, "#count-total")
    page.locator("[data-do=raise]").click()
    page.locator("#raise-by").fill("50")
    page.keyboard.press("Enter")
    wait_until("50 more", lambda: number(page, "#count-total") == total + 50)
    say("raised")

    page.locator("#open-sale").click()
    page.locator("#open-name").fill("opened-here")
    page.locator("#open-total").fill("7")
    page.locator("#open-hold").fill("90")
    page.keyboard.press("Enter")
    expect(page.locator("#sale-title")).to_have_text("opened-here")
    expect(page.locator("#terms")).to_contain_text("held for 1.5 min")
    expect(page.locator("#sales [aria-current=true] b")).to_have_text("opened-here")
    say("opened")
    # One that is there is not changed by opening it again.
    page.locator("#open-sale").click()
    page.locator("#open-name").fill("matinee")
    page.locator("#open-total").fill("9")
    page.keyboard.press("Enter")
    expect(page.locator("#told")).to_contain_text("Precondition failed")
    console.expect_empty(but="412")

    page.locator("[data-do=close]").click()
    page.locator("#close-dialog").get_by_text("Cancel").click()
    expect(status).to_have_text("open")
    page.locator("[data-do=close]").click()
    page.locator("#close-dialog").get_by_text("Close it").click()
    expect(status).to_have_text("closed")
    say("closed")
    page.locator("[data-do=resume]").click()
    expect(status).to_have_text("open")

    # Any name can be watched; one that there is not is told so.
    page.locator("#find-name").fill("nowhere")
    page.keyboard.press("Enter")
    expect(page.locator("#no-sale")).to_contain_text("knows no sale of this name")
    page.locator("#sales").get_by_text("concert").click()
    expect(page.locator("#sale-title")).to_have_text("concert")
    assert page.url.endswith("?sale=concert"), page.url


def take_pictures(page: Page, folder: str) -> None:
    """Light and dark: looked at by axe, and by people."""
    time.sleep(SECONDS_SHOWN)
    for scheme in ["light", "dark"]:
        page.emulate_media(color_scheme=scheme)
        wait_until("charts are drawn anew", lambda: colors_drawn(page, "#chart-stock") > 3)
        expect_accessible(page, scheme)
        page.screenshot(path=f"{folder}/dashboard-{scheme}.png")
    page.emulate_media(color_scheme="light")


def look_at_a_phone(browser, console: Console, url: str, folder: str) -> None:
    phone = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page = phone.new_page()
    page.set_default_timeout(PATIENCE_MS)
    console.watch(page)
    page.goto(url)
    expect_live(page)
    expect_numbers_to_move(page)
    time.sleep(SECONDS_SHOWN)
    expect_accessible(page, "phone")
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390, f"a phone must scroll to the side: {wide}"
    page.locator("#sale").scroll_into_view_if_needed()
    page.evaluate("document.querySelector('#sale').scrollIntoView()")
    page.screenshot(path=f"{folder}/dashboard-phone.png")
    # Another tab has no token.
    assert page.evaluate("sessionStorage.length") == 0
    phone.close()


def see_faults_and_an_end(page: Page, console: Console) -> None:
    faults = page.locator("#faults")
    expect(faults).to_be_hidden()
    say("please: stop redis")
    expect(faults).to_be_visible()
    expect(faults.locator("li").first).to_contain_text("no connection to the ledger")
    expect_live(page)
    say("please: start redis")
    expect(faults).to_be_hidden()
    expect_numbers_to_move(page)
    console.expect_empty()

    say("please: kill the host")
    expect(page.locator("#link")).to_have_attribute("data-state", "stale")
    expect(page.locator("[data-do=pause]")).to_be_disabled()
    expect_accessible(page, "stale")
    say("please: start the host")
    expect_live(page)
    expect(page.locator("[data-do=pause]")).to_be_enabled()
    expect_numbers_to_move(page)
    # That nobody was there is told by the browser itself.
    console.expect_empty(but="net::ERR_")


def main() -> None:
    url, token, folder = sys.argv[1:4]
    expect.set_options(timeout=PATIENCE_MS)
    console = Console(url)
    with sync_playwright() as playwright:
        # As root, as in most containers, Chromium has no sandbox.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.set_default_timeout(PATIENCE_MS)
        console.watch(page)
        page.goto(f"{url}?sale=concert")
        expect_live(page)
        numbers_ms = page.evaluate("performance.getEntriesByName('first numbers')[0].startTime")
        bytes_loaded = page.evaluate(
            "performance.getEntries().filter((it) => it.encodedBodySize).reduce((sum, it) => sum + it.encodedBodySize, 0)"
        )
        say(f"first numbers after {numbers_ms:.0f} ms, {bytes_loaded} bytes")
        expect_numbers_to_move(page)
        take_pictures(page, folder)
        console.expect_empty()
        operate(page, console, token)
        console.expect_empty()
        look_at_a_phone(browser, console, f"{url}?sale=concert", folder)
        console.expect_empty()
        see_faults_and_an_end(page, console)
        browser.close()
    say("done")


main()
