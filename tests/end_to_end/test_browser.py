"""The browser of the tests: one test leaves nothing to the next one."""

from playwright.async_api import Route

from browser import Profile, Visit

KEEP = """() => {
  document.cookie = "left=1; max-age=1000";
  for (const storage of [localStorage, sessionStorage]) storage.setItem("left", "1");
}"""
KEPT = "() => [document.cookie, ...[localStorage, sessionStorage].map(storage => storage.length)]"


async def test_a_visit_finds_nothing_of_the_one_before(profile: Profile):
    """No page, cookie, storage or step of the history, and what its pages do is none of the other's complaints."""

    async def answer(route: Route) -> None:
        await route.fulfill(content_type="text/html", body="<title>page</title>")

    left: list[list[object]] = []
    for _ in range(2):
        async with profile.visiting(Visit) as visit:
            page = await visit.page()
            await page.route("**", answer)
            await visit.open("http://127.0.0.1:1/", page)
            left.append([await page.evaluate(KEPT), await page.evaluate("history.length"), len(visit.context.pages)])
            await page.evaluate(KEEP)
            assert (await page.evaluate(KEPT))[1:] == [1, 1]
            left[-1].append([request.url for request in visit.requests])
    assert left[0] == left[1]
