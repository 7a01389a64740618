"""The dashboard in Chromium, against a real daemon."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import FilePayload, Page, expect

from tests.daemon.instance import Instance, until
from tests.dashboard.looking import FAKE, Dashboard, row, told


def slow(instance: Instance, name: str, **more: object) -> int:
    """A download that does not end by itself, but moves on with each look of the daemon, for minutes."""
    return instance.add(f"{FAKE}/{name}?size=100000&steps=20000&manual=1", **more)


# -- signing in -------------------------------------------------------------------------------------------------------


def test_a_token_in_the_fragment_signs_in_and_is_dropped(dashboard: Dashboard) -> None:
    dashboard.instance.add(f"{FAKE}/first.iso?manual=1")
    page = dashboard.open()
    expect(row(page, "first.iso")).to_be_visible()
    assert "#" not in page.url
    assert page.evaluate("sessionStorage.length + localStorage.length") == 1
    assert page.evaluate("localStorage.length") == 0, "only if the person says so"
    page.reload()
    expect(row(page, "first.iso")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    assert page.evaluate("sessionStorage.length + localStorage.length") == 0
    page.reload()
    expect(page.get_by_label("Token")).to_be_visible()


def test_the_form_signs_in(dashboard: Dashboard) -> None:
    made, page = dashboard.token(), dashboard.blank()
    page.goto(made["url"])
    page.get_by_label("Token").fill("not-a-token")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not accepted")
    assert dashboard.wrong.pop().endswith("401 (Unauthorized)"), "the browser itself tells of it"
    page.get_by_label("Token").fill(made["token"])
    page.get_by_label("Stay signed in on this device").check()
    page.keyboard.press("Enter")
    expect(page.locator(".list")).to_be_visible()
    assert page.evaluate("localStorage.length") == 1


def test_a_token_that_is_revoked_leads_back_to_the_form(dashboard: Dashboard) -> None:
    page = dashboard.open("operate")
    dashboard.instance.call("tokens.revoke", name=dashboard.token("operate")["name"])
    expect(page.get_by_role("alert")).to_contain_text("Sign in again")
    assert all("401" in line for line in dashboard.wrong)
    dashboard.wrong.clear()
    expect(page.locator(".task")).to_have_count(0)


def test_no_figure_of_the_progress_is_cut_off(dashboard: Dashboard) -> None:
    dashboard.instance.add(f"{FAKE}/wide.iso?size=90931")
    for width in (1280, 1440):
        page = dashboard.open(viewport={"width": width, "height": 800})
        page.get_by_role("button", name="All").click()
        amount = row(page, "wide.iso").locator(".amount")
        expect(amount).to_have_text("88.8 KiB of 88.8 KiB100 %")
        assert amount.evaluate("one => one.scrollWidth <= one.clientWidth")
        assert amount.locator("span").first.evaluate("one => one.scrollWidth <= one.clientWidth")


# -- adding -----------------------------------------------------------------------------------------------------------


def test_add_many_with_a_look_at_the_route(dashboard: Dashboard) -> None:
    page = dashboard.open()
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_label("Addresses").fill(f"{FAKE}/one.iso?manual=1\n{FAKE}/two.iso?manual=1\nnonsense")
    preview = page.locator(".preview li")
    expect(preview).to_have_count(3)
    expect(preview.nth(0)).to_contain_text("fake")
    expect(preview.nth(0)).to_contain_text("the first that can fetch it")
    expect(preview.nth(2)).to_contain_text("is not a URL")
    assert dashboard.instance.call("tasks.count") == 0, "a look adds nothing"
    page.get_by_label("Tags").fill("linux, iso")
    page.get_by_role("button", name="Add 2 downloads").click()
    told(page, "2 downloads added")
    expect(page.get_by_label("Addresses")).to_have_value("nonsense")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(row(page, "one.iso")).to_be_visible()
    expect(row(page, "two.iso").locator(".tag")).to_have_text(["linux", "iso"])


def test_a_dropped_torrent_is_previewed_and_added(dashboard: Dashboard) -> None:
    page = dashboard.open()
    page.get_by_role("button", name="Add", exact=True).click()
    torrent = b"d4:infod6:lengthi5e4:name5:a.txt12:piece lengthi16384e6:pieces20:" + b"x" * 20 + b"ee"
    files: list[FilePayload] = [
        {"name": "a.torrent", "mimeType": "application/x-bittorrent", "buffer": torrent},
        {"name": "b.txt", "mimeType": "text/plain", "buffer": b"no"},
    ]
    page.get_by_label("Files").set_input_files(files)
    told(page, "b.txt is neither")
    expect(page.locator(".preview li")).to_have_count(1)
    expect(page.locator(".preview li")).to_contain_text("none of the configured downloaders can fetch")
    page.get_by_role("button", name="Leave out a.torrent").click()
    expect(page.locator(".preview li")).to_have_count(0)


# -- watching and steering --------------------------------------------------------------------------------------------


def test_watch_pause_resume_and_cancel(dashboard: Dashboard) -> None:
    number = slow(dashboard.instance, "film.mkv")
    page = dashboard.open()
    task = row(page, "film.mkv")
    expect(task.locator(".why")).to_contain_text("data")
    expect(page.locator(".verdict")).to_have_text("All is well: 1 running, 0 waiting")
    before = task.locator(".amount").inner_text()
    expect(task.locator(".amount")).not_to_have_text(before)
    task.get_by_role("button", name="Pause").click()
    expect(task.locator(".why")).to_have_text("paused")
    assert dashboard.instance.task(number)["status"] == "paused"
    task.get_by_role("button", name="Resume").click()
    expect(task.locator(".why")).to_contain_text("data")
    task.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Keep").click()
    expect(task).to_be_visible()
    task.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_label("Delete what was fetched, too").check()
    with page.expect_request(lambda request: "tasks.cancel" in (request.post_data or "")) as asked:
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert json.loads(asked.value.post_data or "")["params"] == {"id": number, "delete_data": True}
    expect(task).to_have_count(0)
    assert dashboard.instance.task(number)["status"] == "canceled"
    expect(page.locator(".empty")).to_contain_text("Nothing to do")


def test_a_task_that_is_paused_does_not_leave_the_list(dashboard: Dashboard) -> None:
    for name in ("one", "two"):
        slow(dashboard.instance, name)
    page = dashboard.open()
    pinned = "async most => (await import('/feed.js')).list.pinned.length === most"
    page.wait_for_function(pinned, arg=2)
    # The list is here before it is known who still stands on top of it.
    page.evaluate("""() => {
        const ask = window.fetch;
        window.fetch = async (...asked) => {
            const answer = await ask(...asked);
            if ((asked[1]?.body ?? "").includes("tasks.get")) await new Promise((done) => setTimeout(done, 500));
            return answer;
        };
        const watch = new MutationObserver(() => (window.fewest = Math.min(
            window.fewest ?? 2, document.querySelectorAll(".task").length)));
        watch.observe(document.getElementById("list"), { childList: true, subtree: true });
    }""")
    row(page, "one").get_by_role("button", name="Pause").click()
    page.wait_for_function(pinned, arg=1)
    expect(row(page, "one").locator(".why")).to_have_text("paused")
    row(page, "two").get_by_role("button", name="Pause").click()
    page.wait_for_function(pinned, arg=0)
    expect(row(page, "two").locator(".why")).to_have_text("paused")
    assert page.evaluate("window.fewest ?? 2") == 2


def test_what_failed_needs_somebody_and_is_retried(dashboard: Dashboard) -> None:
    url = f"{FAKE}/broken.zip?fail=request&times=1&kind=http_404"
    number = dashboard.instance.add(url)
    dashboard.instance.finished(number)
    page = dashboard.open()
    expect(page.locator(".verdict")).to_have_text("1 thing needs you")
    expect(page.locator(".needs")).to_contain_text("1 task has failed")
    errors = page.locator(".errors li")
    expect(errors).to_contain_text("http 404 host.invalid")
    expect(errors).to_contain_text("the fake fails as told")
    page.locator(".needs").get_by_role("button", name="Show").click()
    task = row(page, "broken.zip")
    expect(task.locator(".why")).to_have_text("http 404")
    task.locator(".why").click()
    panel = page.get_by_role("complementary", name="Task")
    expect(panel.locator(".reason")).to_contain_text("failed at")
    expect(panel.locator(".attempts")).to_contain_text("the fake fails as told")
    page.keyboard.press("Escape")
    expect(panel).to_have_count(0)
    page.locator(".needs").get_by_role("button", name="Retry all").click()
    expect(page.locator(".verdict")).to_contain_text("All is well")
    expect(task).to_have_count(0)
    assert dashboard.instance.finished(number)["status"] == "completed"
    page.locator(".chips .done").click()
    expect(task.locator(".why")).to_have_text("done")


def test_several_and_all_that_match(dashboard: Dashboard) -> None:
    tasks = [
        {
            "type": "remote_download",
            "params": {"url": f"{FAKE}/many-{number:03}?manual=1"},
            "paused": number < 60,
            "labels": {"tag": "odd" if number % 2 else "even"},
        }
        for number in range(130)
    ]
    dashboard.instance.call("tasks.submit_many", tasks=tasks)
    page = dashboard.open()
    page.locator(".chips .paused").click()
    expect(page.locator(".chips .paused .num")).to_have_text("60")
    row(page, "many-059").get_by_role("checkbox").check()
    row(page, "many-058").get_by_role("checkbox").check()
    bar = page.get_by_role("toolbar")
    expect(bar).to_contain_text("2 selected")
    bar.get_by_role("button", name="Resume").click()
    expect(page.locator(".chips .paused .num")).to_have_text("58")
    expect(bar).to_have_count(0)
    page.get_by_label("Search tasks").fill("tag:even")
    expect(row(page, "many-057")).to_have_count(0)  # it may only be that nothing is there yet
    expect(row(page, "many-056")).to_have_count(1)
    page.get_by_label("Select all that are loaded").check()
    bar.get_by_role("button", name=re.compile("Select all 29 that match")).or_(
        bar.get_by_text("29 selected")
    ).wait_for()
    bar.get_by_role("button", name="Resume").click()
    until(lambda: dashboard.instance.call("tasks.count", status="paused") == 29, "the even ones go on")
    page.get_by_label("Search tasks").fill("many-05")
    expect(row(page, "many-057")).to_have_count(1)
    expect(page.locator(".task")).to_have_count(4)
    page.get_by_label("Search tasks").fill("")
    expect(page.locator(".task")).not_to_have_count(4)
    page.locator(".chips .active").click()
    expect(page.locator(".chips .active .num")).to_have_text("130")
    page.keyboard.press("Escape")
    page.keyboard.press("*")
    expect(bar).to_contain_text("130 selected")
    bar.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog", name="Cancel 130 tasks?").get_by_role("button", name="Cancel").click()
    expect(page.locator(".empty")).to_be_visible()
    assert dashboard.instance.call("tasks.count", status="canceled") == 130


def test_downloaders_and_schedules(dashboard: Dashboard) -> None:
    params = {"url": f"{FAKE}/tick?manual=1"}
    dashboard.instance.call(
        "schedules.create", name="nightly", type="remote_download", params=params, cron="0 3 29 2 *"
    )
    page = dashboard.open()
    downloaders = page.locator(".downloaders")
    expect(downloaders).to_contain_text("fake 1")
    page.get_by_role("button", name="Test fake").click()
    told(page, "fake is as it should be")
    page.get_by_role("button", name="Pause fake").click()
    expect(page.locator(".needs")).to_contain_text("has paused it")
    page.locator(".needs").get_by_role("button", name="Resume").click()
    expect(page.locator(".needs")).to_have_count(0)
    schedules = page.locator(".schedules")
    expect(schedules).to_contain_text("never run")
    schedules.get_by_role("button", name="Run now").click()
    expect(row(page, "tick")).to_be_visible()
    schedules.get_by_role("button", name="Pause nightly").click()
    expect(schedules).to_contain_text("paused")
    dashboard.instance.call("schedules.delete", name="nightly")
    expect(schedules).not_to_contain_text("nightly")
    expect(page.locator(".disks li").first).to_contain_text("free")


# -- who may what -----------------------------------------------------------------------------------------------------


def test_who_may_only_read_sees_no_buttons(dashboard: Dashboard) -> None:
    slow(dashboard.instance, "film.mkv")
    dashboard.instance.finished(dashboard.instance.add(f"{FAKE}/x?fail=request"))
    page = dashboard.open("read")
    expect(row(page, "film.mkv")).to_be_visible()
    expect(page.locator(".needs")).to_contain_text("has failed")
    for name in ("Add", "Pause", "Cancel", "Retry", "Retry all", "Forget all", "Test fake", "Pause fake"):
        expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)
    expect(page.get_by_role("checkbox")).to_have_count(0)
    for key in ("a", "p", "c", "x", "*"):
        page.keyboard.press(key)
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("toolbar")).to_have_count(0)
    page = dashboard.open("submit")
    expect(page.get_by_role("button", name="Add", exact=True)).to_have_count(1)
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)


# -- hostile, by keyboard, small, offline -----------------------------------------------------------------------------


def test_hostile_names_are_only_text(dashboard: Dashboard) -> None:
    evil = "<img src=x onerror=window.hit=1><script>window.hit=1</script>"
    dashboard.instance.add(f"{FAKE}/a?manual=1", name=evil.replace("/", "_"), labels={"tag": evil})
    page = dashboard.open()
    expect(page.locator(".task .name")).to_contain_text("<img src=x onerror=window.hit=1>")
    expect(page.locator(".tag")).to_contain_text("<script>")
    page.locator(".task .name").click()
    expect(page.get_by_role("complementary", name="Task")).to_contain_text("<img")
    page.get_by_label("Search tasks").fill(evil)
    expect(page.locator(".empty")).to_contain_text("<img")
    assert page.evaluate("window.hit") is None
    assert page.locator("img[src=x]").count() == 0


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.querySelector('.name')?.textContent ?? ''"))


LAST = """name => {
    const rows = [...document.querySelectorAll(".task")].sort((one, other) => one.offsetTop - other.offsetTop);
    return rows.at(-1)?.querySelector(".name").textContent === name;
}"""


def test_everything_by_keyboard(dashboard: Dashboard) -> None:
    for name in ("one", "two", "three"):
        slow(dashboard.instance, name)
    page = dashboard.open()
    expect(page.locator(".task")).to_have_count(3)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.wait_for_function(
        "async () => String((await import('/state.js')).state.cursor) === document.activeElement.dataset.id"
    )
    name = focused(page)
    assert page.locator(".task:focus-visible").count() == 1
    page.keyboard.press("p")
    expect(row(page, name).locator(".why")).to_have_text("paused")
    page.wait_for_function(LAST, arg=name)  # below those that run
    assert focused(page) == name, "the keyboard goes with its row"
    page.keyboard.press("p")
    expect(row(page, name).locator(".why")).not_to_have_text("paused")
    page.keyboard.press("Enter")
    expect(page.get_by_role("complementary", name="Task")).to_contain_text(name)
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("tag:none")
    expect(page.locator(".empty")).to_contain_text("Nothing matches")
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    page.keyboard.press("Escape")
    expect(page.locator(".task")).to_have_count(3)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    expect(page.get_by_label("Addresses")).to_be_focused()
    page.keyboard.type(f"{FAKE}/typed?manual=1")
    page.keyboard.press("Control+Enter")
    expect(row(page, "typed")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(dashboard: Dashboard, scheme: str) -> None:
    slow(dashboard.instance, "a-name-that-is-much-too-long-for-any-phone-" * 3)
    page = dashboard.open(viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True, is_mobile=True)
    expect(page.locator(".task")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.locator(".side")).to_be_hidden()
    page.get_by_role("tab", name="Status").tap()
    expect(page.locator(".downloaders")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("tab", name="Tasks").tap()
    page.locator(".task .name").tap()
    expect(page.get_by_role("complementary", name="Task")).to_be_visible()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", dark)[:3])) < 300) is (scheme == "dark")
