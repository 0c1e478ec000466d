from __future__ import annotations

from cutaway.lab.page import Section, page


def test_texts_are_escaped_and_bodies_are_not():
    text = page("<i>", ["a & b"], [Section(title="<t>", body="<p>x</p>", note="<n>")])
    assert "<title>&lt;i&gt;</title>" in text and "<p>a &amp; b</p>" in text
    assert "<h2>&lt;t&gt;</h2>" in text and "&lt;n&gt;" in text and "<p>x</p>" in text
    assert text.startswith("<!doctype html>") and '<meta charset="utf-8">' in text


def test_nothing_comes_from_elsewhere_and_both_lights_are_there():
    text = page("t", [], [])
    for outside in ("http", "//", "@import", "url(", "<script", "<link"):
        assert outside not in text
    assert "prefers-color-scheme: dark" in text
