"""The dashboard in a real browser: Debian's Chromium, driven by Playwright, on `nanorelay serve` with 20,000 sessions and on
`nanorelay demo --forever`. Every page is checked by axe, in light and in dark. Screenshots go to $NANORELAY_SCREENSHOTS.

Usage: dashboard.py NANORELAY DATA_DIR
"""
import contextlib
import os
import pathlib
import re
import shutil
import sys

import axe_playwright_python
from playwright.sync_api import expect, sync_playwright

import dashboard_world
import live

# As root there is no sandbox; and nothing is asked of anybody on the network.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
AXE = pathlib.Path(axe_playwright_python.__file__).parent / "axe.min.js"
# What axe finds in these sets is a mistake.
AXE_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
DARK = "rgb(15, 21, 28)"
PAGES = ["overview", "sessions", "session/s-live", "deliveries", "delivery/s-dead/dead-1", "lanes", "channels", "pauses", "tasks",
         "task/s-task/digest", "questions", "tenants", "live", "audit"]


class Browser:
    """A page whose mistakes are collected."""

    def __init__(self, browser, screenshots):
        self.screenshots = screenshots
        self.context = browser.new_context(viewport={"width": 1440, "height": 900})
        self.page = self.context.new_page()
        self.page.set_default_timeout(live.DEADLINE_S * 1000)
        self.mistakes = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.mistakes.append(f"exception: {error}"))

    def _console(self, message):
        # A browser reports every refusal as an error, also the one that shows the login.
        is_login = "401" in message.text and message.location.get("url", "").endswith(("/v1/me", "/v1/login"))
        if message.type in ("error", "warning") and not is_login:
            self.mistakes.append(f"{message.type}: {message.text} ({message.location.get('url')})")

    def goto(self, name):
        """Shows a page by its address in the dashboard, and waits for its head."""
        self.page.evaluate("name => { location.hash = '#/' + name }", name)
        expect(self.page.locator("main .page h1")).to_be_visible()
        expect(self.page.locator("main [aria-busy]")).to_have_count(0)
        expect(self.page.locator("main").get_by_text("Loading…")).to_have_count(0)

    def shot(self, name):
        self.page.screenshot(path=str(self.screenshots / f"{name}.png"))

    def axe(self, name):
        # Not in the page's own name: its policy allows no script of others.
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("rules => axe.run(document, {runOnly: rules})", AXE_RULES)
        for violation in found["violations"]:
            node = violation["nodes"][0]
            self.mistakes.append(f"axe on {name}: {violation['id']}: {node['html'][:160]}: {node['failureSummary']}")

    def check(self):
        assert not self.mistakes, "\n".join(self.mistakes)


def rows(page):
    return page.locator("main tbody tr")


def log_in(browser, address, token):
    page = browser.page
    page.goto(address)
    page.get_by_label("Token").fill("nr_wrong_token")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    browser.axe("login")
    browser.shot("login")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page.locator("#live")).to_have_text("live")
    # The token is nowhere where a script could find it.
    kept = page.evaluate("JSON.stringify([document.cookie, Object.values(localStorage), Object.values(sessionStorage)])")
    assert token not in kept and "nr_" not in kept, kept


def a_live_delivery_appears(browser, world):
    page = browser.page
    browser.goto("live")
    world.say("s-live", "live-1", "Hello from the agent")
    expect(rows(page).filter(has_text="live-1").filter(has_text="delivered").first).to_be_visible()
    browser.shot("live-event")
    browser.goto("deliveries")
    world.say("s-live", "live-2", "Nobody loads this page again")
    expect(rows(page).filter(has_text="live-2").filter(has_text="delivered")).to_be_visible()
    browser.goto("session/s-live")
    expect(page.get_by_text("Nobody loads this page again").first).to_be_visible()


def dead_letters_are_replayed(browser, world):
    page = browser.page
    browser.goto("deliveries?state=dead")
    expect(rows(page)).to_have_count(3)
    page.get_by_role("link", name="dead-1").click()
    expect(page.get_by_text("the webhook answered 422").first).to_be_visible()
    browser.shot("dead-letter")
    world.receiver.accept()
    page.get_by_role("button", name="Replay").click()
    page.get_by_label("Reason").fill("the receiver is mended")
    page.get_by_role("dialog").get_by_role("button", name="Replay").click()
    expect(page.locator("main .page-head .badge")).to_have_text("delivered")
    # The other two at once, after they were shown.
    browser.goto("deliveries?state=dead")
    page.get_by_role("button", name="Replay matching…").click()
    expect(page.get_by_role("dialog").locator("tbody tr")).to_have_count(2)
    browser.shot("bulk-replay")
    page.get_by_role("dialog").get_by_role("button", name="Replay 2 messages").click()
    expect(page.get_by_text("2 of 2 changed.")).to_be_visible()
    browser.goto("deliveries?session=s-dead&state=delivered")
    expect(rows(page)).to_have_count(3)
    browser.goto("audit")
    expect(rows(page).filter(has_text="the receiver is mended").filter(has_text="browser").first).to_be_visible()


def a_task_is_paused(browser, world):
    page = browser.page
    browser.goto("tasks")
    row = rows(page).filter(has_text="digest")
    expect(row).to_contain_text("pending")
    row.get_by_role("button", name="Pause").click()
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(row).to_contain_text("paused")
    assert world.task_status("s-task") == "paused"
    row.get_by_role("link", name="digest").click()
    expect(page.get_by_role("heading", name="Next runs")).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(page.locator("main .page-head .badge")).to_have_text("pending")


def twenty_thousand_sessions_are_listed(browser):
    page = browser.page
    browser.goto("overview")
    expect(page.locator(".tile").filter(has_text="Sessions").locator(".figure")).to_have_text("20,003")
    browser.goto("sessions")
    expect(rows(page)).to_have_count(50)
    first = rows(page).first.inner_text()
    page.get_by_role("button", name="Next page").click()
    expect(rows(page).first).not_to_have_text(first)
    expect(rows(page)).to_have_count(50)
    page.get_by_label("Search").fill("bulk-13579")
    page.get_by_role("button", name="Filter").click()
    expect(rows(page)).to_have_count(1)
    expect(rows(page)).to_contain_text("bulk-13579")
    browser.shot("sessions-filtered")


def everything_is_reached_by_keyboard(browser):
    page = browser.page
    browser.goto("overview")
    page.evaluate("document.activeElement.blur()")
    page.evaluate("document.querySelector('.skip').focus()")
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.evaluate("document.querySelector('.skip').focus()")
    focused = "document.activeElement.textContent"
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate(focused) == "Tasks":
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Tasks")).to_be_visible()
    expect(rows(page)).to_have_count(1)
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate(focused) == "Run now":
            break
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    browser.axe("dialog")
    # The focus stays in the dialog, and goes back to the button behind it.
    for _ in range(8):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || document.querySelector('dialog').contains(document.activeElement)")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert page.evaluate(focused) == "Run now"


def every_page_is_accessible(browser):
    page = browser.page
    for scheme in ["light", "dark"]:
        page.emulate_media(color_scheme=scheme)
        for name in PAGES:
            browser.goto(name)
            expect(page.locator("#page-error")).to_be_empty()
            browser.axe(f"{name} in {scheme}")
            browser.shot(f"{name.split('/')[0]}-{scheme}")
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == DARK
    page.get_by_label("Colours").select_option("light")
    assert page.evaluate(background) != DARK, "the user's choice counts more than the system's"
    page.reload()
    expect(page.locator("main .page h1")).to_be_visible()
    assert page.evaluate(background) != DARK, "and is kept"
    page.get_by_label("Colours").select_option("auto")
    page.emulate_media(color_scheme="light")


def a_narrow_window_is_usable(browser):
    page = browser.page
    page.set_viewport_size({"width": 390, "height": 800})
    for name in ["overview", "deliveries"]:
        browser.goto(name)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{name} is too wide"
        browser.shot(f"{name}-narrow")
    page.set_viewport_size({"width": 1440, "height": 900})


def log_out(browser):
    page = browser.page
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Token")).to_be_visible()


def a_host_that_goes_away_is_said_so(browser, world):
    browser.goto("overview")
    world.host.__exit__(None)
    expect(browser.page.locator("#banner")).to_contain_text("The host does not answer")
    browser.shot("host-gone")
    # What the browser says of the broken connection is no mistake.
    browser.mistakes = [mistake for mistake in browser.mistakes if "ERR_" not in mistake]


def chat_with_the_demo_agent(browser, address):
    page = browser.page
    page.goto(address)
    said = page.get_by_role("log")
    box = page.get_by_label("Message")
    for text, answer in [("help", "I am Dora"), ("good morning <b>all</b>", "You said: good morning <b>all</b>"),
                         ("file", "report.csv"), ("card", "Build 1842"), ("edit", "This had a mistake.")]:
        box.fill(text)
        box.press("Enter")
        expect(said.get_by_text(answer).first).to_be_visible()
    expect(said.get_by_text("edited")).to_be_visible()
    box.fill("react")
    box.press("Enter")
    expect(said.get_by_role("img", name="reaction thumbs_up")).to_be_visible()
    with page.expect_download() as download:
        said.get_by_role("link", name="report.csv").click()
    assert pathlib.Path(download.value.path()).read_text().startswith("suite,passed,failed")
    box.fill("question")
    box.press("Enter")
    said.get_by_role("button", name="Yes").click()
    expect(said.get_by_text(re.compile("You chose"))).to_be_visible()
    expect(said.get_by_role("button", name="No")).to_be_disabled()
    count = said.locator("li.entry").count()
    browser.axe("chat")
    browser.shot("chat")
    page.reload()
    expect(said.locator("li.entry")).to_have_count(count)
    expect(said.get_by_role("button", name="No")).to_be_disabled()


def main(program, data):
    screenshots = pathlib.Path(os.environ.get("NANORELAY_SCREENSHOTS", live.REPOSITORY / "target" / "screenshots"))
    screenshots.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright, contextlib.ExitStack() as stack:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        stack.callback(chromium.close)
        world = stack.enter_context(dashboard_world.World(program, data / "serve"))
        browser = Browser(chromium, screenshots)
        log_in(browser, world.address, world.token)
        a_live_delivery_appears(browser, world)
        dead_letters_are_replayed(browser, world)
        a_task_is_paused(browser, world)
        twenty_thousand_sessions_are_listed(browser)
        everything_is_reached_by_keyboard(browser)
        every_page_is_accessible(browser)
        a_narrow_window_is_usable(browser)
        browser.check()
        a_host_that_goes_away_is_said_so(browser, world)
        world.start_again()
        expect(browser.page.locator("#banner")).to_be_empty()
        # The host has forgotten who was logged in.
        expect(browser.page.get_by_label("Token")).to_be_visible()
        log_in(browser, world.address, world.token)
        log_out(browser)
        browser.mistakes = [mistake for mistake in browser.mistakes if "ERR_" not in mistake and "401" not in mistake]
        browser.check()
        demo = stack.enter_context(dashboard_world.Demo(program, data / "demo"))
        talk = Browser(chromium, screenshots)
        chat_with_the_demo_agent(talk, demo.chat_address)
        talk.check()
    print(f"dashboard: all pages, 20,003 sessions, a chat; screenshots in {screenshots}")


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
