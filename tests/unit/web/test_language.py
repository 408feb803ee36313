"""Two languages, whole: what is said in English is said in Swedish."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from jinja2 import Environment, FileSystemLoader

import sluss
from sluss.domain.errors import SlussError
from sluss.web import i18n, pages

PACKAGE = Path(sluss.__file__).parent
WEB = PACKAGE / "web"
NEVER_ON_A_PAGE = {"config", "cli", "app"}


def catalogue():
    with i18n.CATALOGUE.open("rb") as source:
        return read_po(source, locale="sv")


def texts_in_pages() -> set:
    keywords = {"_": None, "N_": None, "ngettext": (1, 2)}
    methods = [("**.py", "python"), ("templates/**.html", "jinja2.ext:babel_extract")]
    return {text for _, _, text, _, _ in extract_from_dir(WEB, methods, keywords=keywords)}


def texts_in_errors() -> set:
    """The public sentence of every error, and every text that a rule gives to `InvalidInput`."""
    found = {kind.public for kind in kinds_of(SlussError)}
    for file in PACKAGE.rglob("*.py"):
        module = ".".join(("sluss", *file.relative_to(PACKAGE).with_suffix("").parts))
        if file.is_relative_to(PACKAGE / "store" / "migrations") or module.split(".")[1] in NEVER_ON_A_PAGE:
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("InvalidInput", "_line"):
                found |= {said for arg in node.args[1:] if (said := _value(arg, module))}
    return found


def kinds_of(error: type[SlussError]) -> list[type[SlussError]]:
    return [error, *(deeper for kind in error.__subclasses__() for deeper in kinds_of(kind))]


def _value(node: ast.expr, module: str) -> str | None:
    """The text of a literal, or of an f-string made of the module's constants."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
        return node.value
    if isinstance(node, ast.JoinedStr):
        names = vars(importlib.import_module(module))
        used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        if all(name.isupper() for name in used):
            return eval(compile(ast.Expression(node), module, "eval"), dict(names))  # noqa: S307 - our own source
    return None


@pytest.mark.parametrize("find", [texts_in_pages, texts_in_errors])
def test_everything_said_is_said_in_swedish(find):
    known = {message.id: message.string for message in catalogue() if message.id}
    said = find()
    assert len(said) > 20
    assert sorted(str(text) for text in said if text not in known) == []


def test_nothing_is_translated_that_is_not_said_and_nothing_is_left_empty():
    said = texts_in_pages() | texts_in_errors()
    for message in catalogue():
        if message.id:
            assert message.id in said, message.id
            assert all([message.string] if isinstance(message.string, str) else message.string), message.id


def test_translations_fill_in_the_same_values():
    whole = catalogue()
    for message in whole:
        assert not list(message.check(whole)), message.id


@pytest.mark.parametrize("template", [p.name for p in (WEB / "templates").glob("*.html")])
def test_no_template_has_script_or_style_inside(template):
    html = (WEB / "templates" / template).read_text()
    assert "<style" not in html
    assert " style=" not in html
    assert " on" + "click=" not in html.lower()
    assert "javascript:" not in html.lower()
    for tag in html.split("<script")[1:]:
        assert " src=" in tag.split(">")[0]
        assert tag.split(">")[1].startswith("</script")


@pytest.mark.parametrize("template", [p.name for p in (WEB / "templates").glob("*.html")])
def test_no_template_reaches_another_site(template):
    html = (WEB / "templates" / template).read_text()
    assert "http://" not in html
    assert "https://" not in html
    Environment(loader=FileSystemLoader(WEB / "templates"), autoescape=True).get_template(template)


@pytest.mark.parametrize(
    ("wanted", "language"),
    [
        ("sv-SE,sv;q=0.9,en;q=0.8", "sv"),
        ("en-GB", "en"),
        ("de, en;q=0.5, sv;q=0.4", "en"),
        ("de", "sv"),
        ("", "sv"),
        ("en;q=0, sv;q=0.1", "sv"),
        ("en;q=nonsense", "sv"),
    ],
)
async def test_the_browsers_language_counts_then_the_installations(portal, wanted, language):
    page = await portal.browser(wanted).get("/sign-in")
    assert page.headers["Content-Language"] == language
    assert f'<html lang="{language}">' in page.html


async def test_a_chosen_language_stays_and_leads_back_to_the_page(browser):
    await browser.get("/i/x/code")
    assert "Write the code" in browser.page.text
    await browser.submit("/language", lang="sv")
    assert browser.page.path == "/i/x/code"
    assert "Skriv in koden" in browser.page.text
    assert browser.cookies["__Host-lang"] == "sv"


@pytest.mark.parametrize(
    "back", ["//evil.test", "https://evil.test", "/\\evil.test", "/a\r\nX: y", "javascript:alert(1)", "/?a=b", ""]
)
async def test_choosing_a_language_leads_to_no_other_site(browser, back):
    csrf = (await browser.get("/sign-in")).csrf
    page = await browser.ask("POST", "/language", body=f"csrf={csrf}&lang=sv&return={back}")
    assert (page.status, page.headers["Location"]) == (303, "/")


async def test_a_language_that_is_not_there_is_refused(browser):
    csrf = (await browser.get("/sign-in")).csrf
    assert (await browser.ask("POST", "/language", body=f"csrf={csrf}&lang=xx")).status == 422


def test_how_long_to_wait_is_said_in_words():
    from sluss.domain.errors import TooManyTries

    assert pages.Texts("en").problem(TooManyTries(1)) == "Too many tries. Wait 1 second."
    assert pages.Texts("sv").problem(TooManyTries(30)) == "För många försök. Vänta 30 sekunder."
    assert pages.Texts("sv").problem(TooManyTries(61)) == "För många försök. Vänta 2 minuter."
